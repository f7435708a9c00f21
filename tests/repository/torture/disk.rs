//! A disk that keeps its word and no more: what was synced is there after a loss of power; of the rest, files may be old,
//! new or torn, and names may be old or new.
//!
//! The rules are POSIX's, not those of a journalling file system: the content of a file is durable by its own fsync
//! only, a name by the fsync of its directory only. A rename is atomic, as every file system makes it.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use super::trace::Effect;

/// A file's content, as it is and as it is on disk for sure.
#[derive(Debug, Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

/// One step of names: all of its edits or none.
#[derive(Debug, Clone)]
struct Step(Vec<(Utf8PathBuf, Option<Entry>)>);

impl Step {
    fn touches(&self, directory: &Utf8Path) -> bool {
        self.0
            .iter()
            .any(|(path, _)| path.parent() == Some(directory))
    }

    fn apply(&self, names: &mut BTreeMap<Utf8PathBuf, Entry>) {
        for (path, entry) in &self.0 {
            match entry {
                Some(entry) => drop(names.insert(path.clone(), *entry)),
                None => drop(names.remove(path)),
            }
        }
    }
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    current: BTreeMap<Utf8PathBuf, Entry>,
    durable: BTreeMap<Utf8PathBuf, Entry>,
    /// Steps that are not durable, in order.
    pending: Vec<Step>,
}

impl Disk {
    /// A disk with one directory.
    pub fn new(root: &Utf8Path) -> Self {
        let root = BTreeMap::from([(root.to_owned(), Entry::Directory)]);
        Self {
            current: root.clone(),
            durable: root,
            ..Self::default()
        }
    }

    /// Takes an effect; below `safe`, it is durable at once.
    pub fn apply(&mut self, effect: &Effect, safe: Option<&Utf8Path>) {
        match effect {
            Effect::Create(path) => match self.current.get(path).copied() {
                Some(Entry::File(inode)) => self.inodes[inode].current.clear(),
                Some(Entry::Directory) => panic!("{path} is a directory"),
                None => {
                    self.inodes.push(Inode::default());
                    let entry = Entry::File(self.inodes.len() - 1);
                    self.step(vec![(path.clone(), Some(entry))]);
                }
            },
            Effect::Append(path, bytes) => self.file(path).current.extend(bytes),
            Effect::Sync(path) => {
                if self.current.get(path) == Some(&Entry::Directory) {
                    self.sync_names(path);
                } else {
                    let file = self.file(path);
                    file.durable.clone_from(&file.current);
                }
            }
            Effect::Rename(from, to) => {
                let entry = self.current[from];
                assert_ne!(entry, Entry::Directory, "{from} is a directory");
                self.step(vec![(from.clone(), None), (to.clone(), Some(entry))]);
            }
            Effect::Remove(path) => self.step(vec![(path.clone(), None)]),
            Effect::MakeDirectory(path) => {
                self.step(vec![(path.clone(), Some(Entry::Directory))]);
            }
        }
        if let Some(safe) = safe {
            self.save(safe);
        }
    }

    fn file(&mut self, path: &Utf8Path) -> &mut Inode {
        let Some(Entry::File(inode)) = self.current.get(path).copied() else {
            panic!("{path} is no file that was seen to be made");
        };
        &mut self.inodes[inode]
    }

    fn step(&mut self, edits: Vec<(Utf8PathBuf, Option<Entry>)>) {
        let step = Step(edits);
        step.apply(&mut self.current);
        self.pending.push(step);
    }

    fn sync_names(&mut self, directory: &Utf8Path) {
        for step in std::mem::take(&mut self.pending) {
            if step.touches(directory) {
                step.apply(&mut self.durable);
            } else {
                self.pending.push(step);
            }
        }
    }

    /// Makes all below a directory durable.
    fn save(&mut self, safe: &Utf8Path) {
        let below = |path: &Utf8PathBuf| path.starts_with(safe);
        self.durable.retain(|path, _| !below(path));
        for (path, entry) in self.current.iter().filter(|(path, _)| below(path)) {
            self.durable.insert(path.clone(), *entry);
            if let Entry::File(inode) = entry {
                let inode = &mut self.inodes[*inode];
                inode.durable.clone_from(&inode.current);
            }
        }
        self.pending
            .retain(|step| !step.0.iter().any(|(path, _)| below(path)));
    }

    /// What is found after a loss of power, drawn by lot from all that may be: content of files by path, and
    /// directories.
    pub fn lose_power(&self, dice: &mut fastrand::Rng) -> Remains {
        let mut names = self.durable.clone();
        if dice.bool() {
            // In order, up to some moment.
            let some = dice.usize(..=self.pending.len());
            self.pending[..some]
                .iter()
                .for_each(|step| step.apply(&mut names));
        } else {
            // In the order of each directory alone, which may be any.
            let lucky = self.pending.iter().filter(|_| dice.bool());
            lucky.for_each(|step| step.apply(&mut names));
        }
        let mut remains = Remains::default();
        for (path, entry) in &names {
            // What its directory did not outlive is gone with it; parents come before what they hold.
            let is_reached = remains.directories.is_empty()
                || path
                    .parent()
                    .is_some_and(|up| remains.directories.contains(&up.to_owned()));
            if !is_reached {
                continue;
            }
            match entry {
                Entry::Directory => remains.directories.push(path.clone()),
                Entry::File(inode) => {
                    let content = self.inodes[*inode].after_a_loss(dice);
                    remains.files.push((path.clone(), content));
                }
            }
        }
        remains
    }
}

impl Inode {
    fn after_a_loss(&self, dice: &mut fastrand::Rng) -> Vec<u8> {
        if self.durable == self.current {
            return self.durable.clone();
        }
        match dice.u8(..4) {
            0 => self.durable.clone(),
            1 => self.current.clone(),
            2 => self.current[..dice.usize(..=self.current.len())].to_vec(),
            _ => {
                // It has its length, and not its content.
                let mut torn = self.current.clone();
                let from = dice.usize(..=torn.len());
                torn[from..].fill(0);
                torn
            }
        }
    }
}

/// What is left.
#[derive(Debug, Default)]
pub struct Remains {
    /// In the order in which they can be made.
    pub directories: Vec<Utf8PathBuf>,
    pub files: Vec<(Utf8PathBuf, Vec<u8>)>,
}

impl Remains {
    /// Writes what is left below `from` to `to`, which is there.
    pub fn lay_out(&self, from: &Utf8Path, to: &Utf8Path) {
        let at = |path: &Utf8Path| to.join(path.strip_prefix(from).unwrap());
        for directory in &self.directories {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for (file, content) in &self.files {
            fs::write(at(file), content).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All contents that `f` may have after a loss of power; none where it is gone.
    fn outcomes(effects: &[Effect]) -> BTreeSet<Option<Vec<u8>>> {
        let mut disk = Disk::new(Utf8Path::new("/d"));
        for effect in effects {
            disk.apply(effect, None);
        }
        let outcome = |seed| {
            let remains = disk.lose_power(&mut fastrand::Rng::with_seed(seed));
            let mut files = remains.files.into_iter();
            files
                .find(|(path, _)| path == "/d/f")
                .map(|(_, content)| content)
        };
        (0..500).map(outcome).collect()
    }

    fn old() -> Vec<Effect> {
        let (new, file) = (Utf8PathBuf::from("/d/f.new"), Utf8PathBuf::from("/d/f"));
        vec![
            Effect::Create(file.clone()),
            Effect::Append(file.clone(), b"old".into()),
            Effect::Sync(file.clone()),
            Effect::Sync("/d".into()),
            Effect::Create(new.clone()),
            Effect::Append(new.clone(), b"new".into()),
            Effect::Sync(new.clone()),
            Effect::Rename(new, file),
            Effect::Sync("/d".into()),
        ]
    }

    #[test]
    fn a_file_that_is_replaced_by_the_book_is_old_or_new() {
        let steps = old();
        let (before, after) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
        assert_eq!(outcomes(&steps[..7]), BTreeSet::from([before.clone()]));
        assert_eq!(
            outcomes(&steps[..8]),
            BTreeSet::from([before, after.clone()])
        );
        assert_eq!(outcomes(&steps), BTreeSet::from([after]));
    }

    #[test]
    fn whoever_forgets_a_sync_gets_what_he_deserves() {
        let mut steps = old();
        steps.remove(6);
        let torn = outcomes(&steps);
        assert!(torn.contains(&Some(Vec::new())) && torn.contains(&Some(b"n\0\0".to_vec())));
        let mut steps = old();
        steps.remove(3);
        steps.truncate(3);
        assert_eq!(
            outcomes(&steps),
            BTreeSet::from([None, Some(b"old".to_vec())])
        );
    }
}
