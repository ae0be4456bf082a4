//! The sources of the configuration, laid over each other key by key.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    fs,
    path::Path,
};

use serde::Deserialize;
use toml::{Table, Value, de::DeTable};

use super::{
    Config, ConfigError, Origin,
    keys::{self, KEYS, Key},
};

const PREFIX: &str = "GRANARY_";

/// The values that were set, each already checked against its key's type, and where they stand.
#[derive(Clone, Default)]
pub(super) struct Layers(BTreeMap<String, (Value, Origin)>);

/// Values stay out, because some hold secrets.
impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(key, (_, origin))| (key, origin)))
            .finish()
    }
}

/// The variables of this process that may concern us.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

impl Layers {
    /// Where the value of a key stands.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.0
            .get(key)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The first key that was set and begins so.
    pub(super) fn first_below(&self, prefix: &str) -> String {
        let found = self.0.keys().find(|key| key.starts_with(prefix));
        found.map_or_else(|| prefix.to_owned(), Clone::clone)
    }

    /// Lays the keys of a TOML file over what is there.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: 1 + text
                .bytes()
                .take(offset)
                .filter(|byte| *byte == b'\n')
                .count(),
        };
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        };
        let spans = DeTable::parse(&text).map_err(syntax)?;
        let values: Table = toml::from_str(&text).map_err(syntax)?;
        self.add_table("", spans.get_ref(), values, &at)
    }

    fn add_table(
        &mut self,
        section: &str,
        spans: &DeTable<'_>,
        mut values: Table,
        at: &impl Fn(usize) -> Origin,
    ) -> Result<(), ConfigError> {
        for (name, span) in spans {
            let Some(value) = values.remove(name.get_ref().as_ref()) else {
                continue;
            };
            let origin = at(name.span().start);
            let key = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            match (span.get_ref().as_table(), value) {
                (Some(spans), Value::Table(values)) if keys::find(&key).is_none() => {
                    if !keys::is_section(&key) && values.is_empty() {
                        return Err(unknown(&key, origin));
                    }
                    self.add_table(&key, spans, values, at)?;
                }
                (_, value) => self.set(&key, value, origin)?,
            }
        }
        Ok(())
    }

    /// Lays variables of the form `GRANARY_SECTION__KEY` over what is there. An empty one counts
    /// as not set, which is how compose files leave a variable out.
    ///
    /// Variables with the prefix and without `__` are not ours: Kubernetes makes some
    /// (`GRANARY_SERVICE_HOST`) for a service of our name.
    pub(super) fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(PREFIX).filter(|_| !text.is_empty()) else {
                continue;
            };
            let path = path.to_ascii_lowercase();
            let origin = Origin::Environment(name.clone());
            if path.contains("__") {
                self.set_text(&path.replace("__", "."), &text, origin)?;
            } else if let Some(key) = KEYS.iter().find(|key| key.name.replace('.', "_") == path) {
                let problem = format!(
                    "a section ends with two underscores: {}",
                    keys::variable(key.name)
                );
                return Err(ConfigError::Key {
                    origin,
                    key: key.name.to_owned(),
                    problem,
                });
            }
        }
        Ok(())
    }

    /// Sets a key from untyped text: as a text if its type takes one, else as a switch or number.
    fn set_text(&mut self, key: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let as_text = self.set(key, text.into(), origin.clone());
        let plain = text
            .parse()
            .map(Value::Boolean)
            .or_else(|_| text.parse().map(Value::Integer));
        match (as_text, plain) {
            (Err(error), Ok(value)) => self.set(key, value, origin).map_err(|_| error),
            (result, _) => result,
        }
    }

    /// Sets one key, after checking it against its type.
    pub(super) fn set(
        &mut self,
        key: &str,
        value: Value,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let Some(known) = keys::find(key) else {
            return Err(unknown(key, origin));
        };
        if let Err(error) = Config::deserialize(nested(key, value.clone())) {
            let problem = format!("{}; expected {}", error.message().trim_end(), known.expects);
            return Err(ConfigError::Key {
                origin,
                key: key.to_owned(),
                problem,
            });
        }
        self.0.insert(key.to_owned(), (value, origin));
        Ok(())
    }

    /// The configuration that results when `base` holds the defaults.
    pub(super) fn apply_to(self, base: &Config) -> Result<Config, ConfigError> {
        let show = |error: String| ConfigError::Show(error);
        let mut table = Table::try_from(base).map_err(|error| show(error.to_string()))?;
        for (key, (value, _)) in &self.0 {
            merge(&mut table, nested(key, value.clone()));
        }
        let mut config =
            Config::deserialize(table).map_err(|error| show(error.message().to_owned()))?;
        config.data.clone_from(&base.data);
        config.layers = self;
        Ok(config)
    }
}

fn unknown(key: &str, origin: Origin) -> ConfigError {
    let problem = if keys::is_section(key) {
        format!("this is a section; its keys stand below a line [{key}]")
    } else {
        match (keys::nearest(key), &origin) {
            (Some(near), Origin::Environment(_)) => format!(
                "this key is not known; did you mean {}?",
                keys::variable(near)
            ),
            (Some(near), _) => format!("this key is not known; did you mean {near}?"),
            (None, _) => {
                "this key is not known; `granary config show` lists those there are".to_owned()
            }
        }
    };
    ConfigError::Key {
        origin,
        key: key.to_owned(),
        problem,
    }
}

/// The table that holds one value at a dotted path.
fn nested(key: &str, value: Value) -> Table {
    let (first, value) = match key.split_once('.') {
        Some((section, rest)) => (section, Value::Table(nested(rest, value))),
        None => (key, value),
    };
    Table::from_iter([(first.to_owned(), value)])
}

fn merge(into: &mut Table, from: Table) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// See [`Config::show`].
pub(super) fn show(config: &Config) -> Result<String, ConfigError> {
    let table = Table::try_from(config).map_err(|error| ConfigError::Show(error.to_string()))?;
    let mut text = format!("# data folder: {}\n", config.data.display());
    let mut open = String::new();
    for (key, known) in named(&table) {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
        if section != open {
            let _ = writeln!(text, "\n[{section}]");
            section.clone_into(&mut open);
        }
        let value = key
            .split('.')
            .try_fold(&table, |table, part| match table.get(part) {
                Some(Value::Table(inner)) => Ok(inner),
                other => Err(other),
            });
        let _ = match (value, config.layers.origin(&key)) {
            (Err(Some(value)), Origin::Default) => writeln!(text, "{name} = {value}"),
            (Err(Some(value)), origin) => writeln!(text, "{name} = {value} # {origin}"),
            _ => writeln!(text, "# {name}: not set; {}", known.expects),
        };
    }
    Ok(text)
}

/// Every key, and behind them those of the tables that people name themselves.
fn named(table: &Table) -> Vec<(String, &'static Key)> {
    let (own, plain): (Vec<_>, Vec<_>) = KEYS.iter().partition(|key| key.name.contains('*'));
    let providers = table.get("auth").and_then(|auth| auth.get("oidc"));
    let providers = providers.and_then(Value::as_table).into_iter().flatten();
    let of_providers = providers.flat_map(|(name, _)| {
        own.iter()
            .map(move |key| (key.name.replacen('*', name, 1), *key))
    });
    plain
        .iter()
        .map(|key| (key.name.to_owned(), *key))
        .chain(of_providers)
        .collect()
}
