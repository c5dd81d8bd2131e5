//! The new side's tree of mailboxes: what it is, and what of ours goes in it.

use std::collections::BTreeSet;

use tracing::info;

use super::{Lists, Run, Tree};
use crate::mailbox::MailboxName;
use crate::migrate::Stop;
use crate::migrate::plan::{SUBSCRIPTION_LEAD, emptied};
use crate::migrate::write::DELETION_LEAD;
use crate::target::dsync::{Deletion, FolderDeletion, Mode, Node, Opening};

/// A session that is only about the tree.
fn opening(nodes: Vec<Node>, delete: Vec<Deletion>, delete_folders: Vec<FolderDeletion>) -> Opening {
    Opening {
        mode: Mode::Full,
        states: Vec::new(),
        namespaces: Vec::new(),
        nodes,
        delete,
        delete_folders,
        virtual_all: None,
    }
}

impl Run<'_> {
    /// The mailboxes of the new side.
    pub(super) async fn tree(&mut self) -> Result<Tree, Stop> {
        self.readers.new.close().await?;
        let session = self.platform.open_target(&self.job.login, opening(Vec::new(), Vec::new(), Vec::new())).await?;
        let nodes = session.remote_tree().iter().filter_map(|node| Some((node.name.clone()?, node.mailbox?)));
        let tree = nodes.collect();
        session.finish().await?;
        Ok(tree)
    }

    /// Deletes a mailbox that we made and in which nothing is left.
    pub(super) async fn delete(&mut self, name: &MailboxName, lists: &mut Lists) -> Result<(), Stop> {
        let Some(there) = lists.tree.remove(name) else { return Ok(()) };
        info!(user = %self.job.user, mailbox = %name, "a mailbox that we made is deleted on the new side");
        self.readers.new.close().await?;
        let at = u64::try_from(self.now).unwrap_or_default() + DELETION_LEAD;
        let separator = lists.new.separator.unwrap_or('/');
        let folders = emptied(std::slice::from_ref(name), &lists.old, &lists.new).into_iter();
        let folders = folders.map(|name| FolderDeletion { name, separator, at }).collect();
        let delete = vec![Deletion { guid: there.guid, at }];
        Ok(self.platform.open_target(&self.job.login, opening(Vec::new(), delete, folders)).await?.finish().await?)
    }

    /// Subscribes to what the old side subscribed to, and unsubscribes from what it no longer does, if that came from us. False if
    /// there is nothing to do.
    pub(super) async fn subscribe(&mut self, lists: &Lists) -> Result<bool, Stop> {
        let user = self.job.user.as_str();
        let ours = self.platform.store.merged_subscriptions(user).await?;
        let (here, there) = (&lists.old.subscriptions, &lists.new.subscriptions);
        let add: BTreeSet<&MailboxName> =
            here.iter().filter(|name| !there.contains(*name) && !ours.contains(*name)).collect();
        let remove = ours.iter().filter(|name| !here.contains(*name) && there.contains(*name));
        let now = u64::try_from(self.now).unwrap_or_default();
        let nodes: BTreeSet<&MailboxName> = add.iter().copied().chain(remove).collect();
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|name| Node {
                name: name.clone(),
                mailbox: lists.tree.get(name).copied(),
                changed_at: 0,
                subscribed: add.contains(name),
                subscription_changed_at: now + SUBSCRIPTION_LEAD,
            })
            .collect();
        let changed = !nodes.is_empty();
        if changed {
            self.readers.new.close().await?;
            let opening = opening(nodes, Vec::new(), Vec::new());
            self.platform.open_target(&self.job.login, opening).await?.finish().await?;
        }
        let left: BTreeSet<MailboxName> = ours.iter().chain(add).filter(|name| here.contains(*name)).cloned().collect();
        if left != ours {
            self.platform.store.set_merged_subscriptions(user, left).await?;
        }
        Ok(changed)
    }
}
