//! Removing a whole repository (decision 22).

use granary_catalog::RepositoryRemoval;

use crate::{
    Principal, RegistryError,
    access::{Administering, May},
};

impl May<Administering> {
    /// Removes the repository: from now on nobody sees it, and its upload sessions have ended. Its name is free for another
    /// one, which gets nothing of it. What was in it goes with the next collections of garbage.
    pub async fn remove_repository(&self) -> Result<(), RegistryError> {
        let rules = &self.parts().rules;
        if !rules.delete && self.caller.principal != Principal::Operator {
            return Err(RegistryError::DeleteDisabled);
        }
        let delay = rules.read_grace.min(rules.grace);
        let (registry, asker) = (self.registry.clone(), self.asker());
        let repository = self.repository.clone();
        let removing = self.registry.to_the_end(async move {
            granary_failpoint::reach_async("repository::before_remove").await;
            let (catalog, sessions) = (&registry.parts.catalog, &registry.parts.sessions);
            let removal = catalog
                .remove_repository(&repository, &asker, delay)
                .await?;
            if let RepositoryRemoval::Removed { sessions: ended } = &removal {
                // Writers in other processes learn of it when they save, or say that they live.
                sessions.end(ended);
            }
            Ok(removal)
        });
        match removing.await? {
            RepositoryRemoval::Removed { .. } => Ok(()),
            RepositoryRemoval::Missing => Err(RegistryError::NameUnknown(self.repository.clone())),
            RepositoryRemoval::Denied(reason) => Err(self.denied(reason)),
        }
    }
}
