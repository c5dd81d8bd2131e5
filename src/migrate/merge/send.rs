//! Writes what a look at a mailbox found, in one dsync session.

use super::look::Looked;
use super::{Lists, Run};
use crate::mailbox::diff::FlagChange;
use crate::mailbox::{Contents, Guid, Listed, MailboxName, ModSeq, Uid, UidNext};
use crate::migrate::Stop;
use crate::migrate::write::guid_of;
use crate::source::BodyEvent;
use crate::store::MergedMailbox;
use crate::target::dsync::{Change, MailboxHead, MailboxState, Mode, Node, NodeMailbox, Opening, Session};

impl Run<'_> {
    /// Writes it. False if something came in between; whatever was written, the next look finds it.
    pub(super) async fn write(&mut self, name: &MailboxName, looked: &Looked, lists: &mut Lists) -> Result<bool, Stop> {
        self.readers.new.close().await?;
        let there = lists.tree.get(name).copied();
        let known = there.zip(looked.target.as_ref());
        let mailbox = match (known, &looked.live, &looked.source) {
            (Some((node, target)), ..) => NodeMailbox { uid_next: target.uid_next, ..node },
            (None, Some(live), Some(source)) => {
                NodeMailbox { guid: live.mailbox.seed, uid_validity: source.uid_validity, uid_next: UidNext(1) }
            }
            // There is neither a mailbox to write nor one to write to.
            (None, ..) => return Ok(false),
        };
        let state = known.filter(|(_, target)| target.uid_next.0 > 1).map(|(node, target)| MailboxState {
            guid: node.guid,
            uid_validity: target.uid_validity,
            last_common_uid: target.uid_next.0 - 1,
            last_common_modseq: ModSeq(1),
            messages: count(&target.messages),
        });
        let node = Node {
            name: name.clone(),
            mailbox: Some(mailbox),
            // What is there keeps its name; dsync lets the newer of two changes win.
            changed_at: if there.is_some() { 0 } else { u64::try_from(self.now).unwrap_or_default() },
            subscribed: lists.new.subscriptions.contains(name),
            subscription_changed_at: 0,
        };
        let opening = Opening {
            mode: if state.is_some() { Mode::State } else { Mode::Full },
            states: state.into_iter().collect(),
            namespaces: Vec::new(),
            nodes: vec![node],
            delete: Vec::new(),
            delete_folders: Vec::new(),
            virtual_all: None,
        };
        let mut session = self.platform.open_target(&self.job.login, opening).await?;
        let found = session.remote_tree().iter().find(|node| node.name.as_ref() == Some(name));
        let found = found.and_then(|node| node.mailbox);
        let as_seen = |found: NodeMailbox| (found.guid, found.uid_validity, found.uid_next.0.max(1));
        if found.map(as_seen) != there.map(|_| as_seen(mailbox)) {
            session.abort().await;
            lists.tree = self.tree().await?;
            return Ok(false);
        }
        let done = self.send(&mut session, (name, mailbox), looked, lists).await;
        match done {
            Ok(true) => {
                session.finish().await?;
                lists.tree.insert(name.clone(), mailbox);
                Ok(true)
            }
            other => {
                session.abort().await;
                lists.tree = self.tree().await?;
                other
            }
        }
    }

    /// False if a message vanished or can't be read: the session must be aborted then.
    async fn send(
        &mut self,
        session: &mut Session,
        (name, mailbox): (&MailboxName, NodeMailbox),
        looked: &Looked,
        lists: &Lists,
    ) -> Result<bool, Stop> {
        let (save, _, expunge) = looked.steps();
        let before = looked.target.as_ref().map_or(0, |target| target.messages.len());
        let messages = u32::try_from((before + save).saturating_sub(expunge)).unwrap_or(u32::MAX);
        let saved = looked.live.iter().flat_map(|live| &live.plan.save).map(|(_, uid)| uid.0 + 1).max();
        // A mailbox that we make goes on where the old side's is.
        let promised = looked.source.as_ref().filter(|_| looked.target.is_none()).map(|source| source.uid_next.0);
        let uid_next = UidNext(saved.into_iter().chain(promised).fold(mailbox.uid_next.0.max(1), u32::max));
        let sides = looked.source.iter().chain(&looked.target);
        let highest = sides.filter_map(|side| side.highest_modseq).max().unwrap_or(ModSeq(1));
        // Above everything the target has seen, or it would ignore a removed flag (dsync reference §13).
        let flags_modseq = ModSeq(highest.0 + 1);
        let there = session
            .begin_mailbox(MailboxHead {
                guid: mailbox.guid,
                uid_validity: mailbox.uid_validity,
                uid_next,
                messages,
                inflate: false,
                first_recent_uid: uid_next.0,
                highest_modseq: flags_modseq,
            })
            .await?;
        if there.uid_next.0.max(1) != mailbox.uid_next.0.max(1) {
            // The new side got mail since we looked: UIDs would collide.
            return Ok(false);
        }
        for change in changes(looked, flags_modseq) {
            session.change(&change).await?;
        }
        session.end_changes().await?;
        if let (Some(live), Some(source), Some(listed)) = (&looked.live, &looked.source, lists.old.mailboxes.get(name))
        {
            let uids = live.plan.save.iter().filter_map(|(at, _)| source.messages.get(*at)).map(|message| message.uid);
            let uids: Vec<Uid> = uids.collect();
            if !self.bodies(session, &live.mailbox, (listed, source), uids).await? {
                return Ok(false);
            }
        }
        session
            .end_mailbox(MailboxState {
                guid: mailbox.guid,
                uid_validity: mailbox.uid_validity,
                last_common_uid: uid_next.0.saturating_sub(1),
                last_common_modseq: highest,
                messages,
            })
            .await?;
        Ok(true)
    }

    async fn bodies(
        &mut self,
        session: &mut Session,
        mailbox: &MergedMailbox,
        (listed, source): (&Listed, &Contents),
        uids: Vec<Uid>,
    ) -> Result<bool, Stop> {
        if uids.is_empty() {
            return Ok(true);
        }
        let bodies = self.readers.old.bodies(listed, source.uid_validity, uids).await?;
        let mut bodies = bodies.expecting(&source.messages);
        let key = |uid| (mailbox.name.clone(), source.uid_validity, uid);
        while let Some(event) = bodies.next().await? {
            match event {
                BodyEvent::Start(uid, _) => {
                    let message = source.messages.binary_search_by_key(&uid, |message| message.uid);
                    let message = message.ok().and_then(|at| source.messages.get(at));
                    let date = message.and_then(|message| message.internal_date).unwrap_or_default();
                    session.begin_mail(guid_of(mailbox.seed, source.uid_validity, uid), date, None).await?;
                }
                BodyEvent::Chunk(octets) => {
                    session.mail_chunk(&octets).await?;
                    self.job.progress.update(|progress| progress.bytes_done += octets.len() as u64);
                }
                BodyEvent::End(_) => {
                    session.end_mail().await?;
                    self.job.progress.update(|progress| progress.messages_done += 1);
                }
                BodyEvent::Again(_) => return Ok(false),
                BodyEvent::Vanished(uid) => {
                    if !self.vanished.insert(key(uid)) {
                        self.unreadable.insert(key(uid), "it is listed, and there is no text".to_owned());
                    }
                    return Ok(false);
                }
                BodyEvent::Unreadable(uid, why) => {
                    self.unreadable.insert(key(uid), why);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// All changes, ascending by the UID on the new side.
fn changes(looked: &Looked, flags_modseq: ModSeq) -> Vec<Change> {
    let mut changes: Vec<(Uid, Change)> = Vec::new();
    for known in looked.all() {
        let guid = |uid| guid_of(known.mailbox.seed, known.mailbox.uid_validity, uid);
        let expunged = known.plan.expunge.iter();
        changes.extend(expunged.map(|&(uid, there)| (there, Change::Expunge { uid: there, guid: guid(uid) })));
        changes
            .extend(known.plan.flags.iter().map(|(uid, change)| (change.uid, flags(change, guid(*uid), flags_modseq))));
    }
    if let Some((live, source)) = looked.live.as_ref().zip(looked.source.as_ref()) {
        let guid = |uid| guid_of(live.mailbox.seed, live.mailbox.uid_validity, uid);
        changes.extend(live.plan.save.iter().filter_map(|(at, uid)| Some((source.messages.get(*at)?, *uid))).map(
            |(message, uid)| {
                let keywords = message.keywords.fit().0.iter().map(str::to_owned).collect();
                // Its mod-sequence is the new side's matter.
                let (guid, modseq) = (guid(message.uid), ModSeq(1));
                (uid, Change::Save { uid, guid, modseq, flags: message.flags, keywords })
            },
        ));
    }
    changes.sort_by_key(|(uid, _)| *uid);
    changes.into_iter().map(|(_, change)| change).collect()
}

fn flags(change: &FlagChange, guid: Guid, modseq: ModSeq) -> Change {
    Change::Flags {
        uid: change.uid,
        guid,
        modseq,
        flags: change.flags,
        had: change.had,
        keep: change.keep.clone(),
        add: change.add.clone(),
        remove: change.remove.clone(),
    }
}

fn count<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
}
