//! What a decision costs: the time of asking leave in a registry in this process, for a principal in many teams with many
//! grants. No server takes part.

use std::{path::Path, process::ExitCode, sync::Arc, time::Instant};

use anyhow::Context as _;
use granary_access::{Caller, Principal, Role, Scope, TeamRole};
use granary_blobs::FileStore;
use granary_catalog::Catalog;
use granary_identity::{InstallationKey, PasswordSettings, Secret};
use granary_oci::RepositoryName;
use granary_registry::{
    AccountRules, AccountsCommand, GrantRequest, GroupsCommand, ManifestRequest, Origin,
    Precondition, Pushing, Reading, Registry, Rules, Shown,
};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::args::DecideArgs;

/// Changes that wait for one commit.
const TOGETHER: usize = 256;

const IMAGE: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;

/// Seeds a registry and prints how long it takes to ask leave there: first from the catalog, then from what is kept.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) async fn decide(args: &DecideArgs) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder)?;
    let registry = open(&args.folder).await?;
    let began = Instant::now();
    seed(&registry, args).await?;
    println!("seeded in {:.1} s", began.elapsed().as_secs_f64());
    let member = sign_in(&registry, "member").await?;
    let mut names = Vec::new();
    for number in 0..args.repositories {
        names.push(repository(number)?);
    }
    let cold = measure(&registry, &member, &names, args.repositories).await?;
    let warm = measure(&registry, &member, &names, args.decisions).await?;
    for (what, times) in [("from the catalog", cold), ("from what is kept", warm)] {
        println!(
            "{what}: {} decisions, p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
            times.len(),
            micros(&times, 0.5),
            micros(&times, 0.99),
            micros(&times, 0.999),
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    std::time::Duration::from_nanos(times.value_at_quantile(quantile)).as_secs_f64() * 1e6
}

async fn measure(
    registry: &Registry,
    who: &Principal,
    names: &[RepositoryName],
    decisions: usize,
) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for name in names.iter().cycle().take(decisions) {
        let name = name.clone();
        let began = Instant::now();
        let may = registry.authorise::<Reading>(who, name).await;
        let took = began.elapsed();
        may.context("what was granted is not allowed")?;
        times.record(u64::try_from(took.as_nanos())?)?;
    }
    Ok(times)
}

async fn open(folder: &Path) -> anyhow::Result<Registry> {
    let catalog = Catalog::open_sqlite(&folder.join("catalog.db")).await?;
    let store = FileStore::open(&folder.join("blobs"), 0)?;
    let rules = Rules {
        accounts: AccountRules {
            passwords: PasswordSettings {
                memory_kib: 8,
                iterations: 1,
                min_length: 12,
            },
            key: Some(Arc::new(InstallationKey::from_bytes([7; 32]))),
            ..AccountRules::default()
        },
        ..Rules::default()
    };
    Ok(Registry::open(catalog, Box::new(store), rules).await?)
}

fn password(user: &str) -> Secret {
    Secret::from(format!("{user}, quite long"))
}

async fn sign_in(registry: &Registry, user: &str) -> anyhow::Result<Principal> {
    let shown = Shown::Password {
        user: user.to_owned(),
        secret: password(user),
    };
    Ok(registry.sign_in(shown, &Origin::default()).await?)
}

fn repository(number: usize) -> anyhow::Result<RepositoryName> {
    Ok(format!("acme/r{number}").parse()?)
}

async fn seed(registry: &Registry, args: &DecideArgs) -> anyhow::Result<()> {
    let bootstrap = AccountsCommand::Bootstrap {
        user: "owner".to_owned(),
        password: password("owner"),
    };
    registry.administer(bootstrap).await?;
    let member = AccountsCommand::AddUser {
        user: "member".to_owned(),
        password: password("member"),
        administrator: false,
    };
    registry.administer(member).await?;
    for command in [
        GroupsCommand::CreateOrganisation {
            organisation: "acme".to_owned(),
            owner: "owner".to_owned(),
        },
        GroupsCommand::SetMember {
            organisation: "acme".to_owned(),
            member: "member".to_owned(),
            role: Role::Member,
        },
    ] {
        registry
            .administer(AccountsCommand::Groups(command))
            .await?;
    }
    let owner = sign_in(registry, "owner").await?;
    together(args.repositories, |number| {
        push(registry.clone(), owner.clone(), number)
    })
    .await?;
    together(args.teams, |number| join(registry.clone(), number)).await?;
    let (teams, repositories) = (args.teams.max(1), args.repositories.max(1));
    together(args.grants, |number| {
        grant(registry.clone(), number % teams, number % repositories)
    })
    .await
}

async fn push(registry: Registry, who: Principal, number: usize) -> anyhow::Result<()> {
    let may = registry
        .authorise::<Pushing>(&who, repository(number)?)
        .await?;
    let request = ManifestRequest {
        reference: "v".parse()?,
        tags: Vec::new(),
        content_type: None,
        precondition: Precondition::None,
        body: IMAGE.into(),
    };
    may.put_manifest(request).await?;
    Ok(())
}

async fn join(registry: Registry, number: usize) -> anyhow::Result<()> {
    let (organisation, team) = ("acme".to_owned(), format!("t{number}"));
    let command = GroupsCommand::CreateTeam { organisation, team };
    registry
        .administer(AccountsCommand::Groups(command))
        .await?;
    let command = GroupsCommand::SetTeamMember {
        team: format!("acme/t{number}"),
        member: "member".to_owned(),
        role: TeamRole::Member,
    };
    registry
        .administer(AccountsCommand::Groups(command))
        .await?;
    Ok(())
}

async fn grant(registry: Registry, team: usize, number: usize) -> anyhow::Result<()> {
    let scope: Scope = format!("read,write:acme/r{number}").parse()?;
    let request = GrantRequest {
        user: format!("acme/t{team}"),
        verbs: scope.verbs,
        repositories: scope.repositories,
        tags: scope.tags,
        lifetime: None,
    };
    registry.grant(&Caller::operator(), request).await?;
    Ok(())
}

/// Does something `count` times, many at once, so that they share commits.
async fn together<F>(count: usize, work: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= TOGETHER
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        running.spawn(work(number));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}
