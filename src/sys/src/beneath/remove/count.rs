//! What was removed, for the report.

use super::look::Seen;
use crate::beneath::Kind;

/// Counts of one removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Regular files.
    pub files: u64,
    /// Folders, the tree's own included.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Pipes, sockets, devices.
    pub special: u64,
    /// Files that had another name when this one went: in the tree, or outside it.
    pub linked: u64,
    /// Files with the set-user-id or set-group-id bit.
    pub set_id: u64,
    /// Files and folders that were immutable or append-only.
    pub protected: u64,
    /// Mounts that were taken away, unentered.
    pub mounts: u64,
    /// How many folders deep the deepest one lay below the tree's own.
    pub deepest: u64,
    /// Files and folders that were made while the tree was being removed.
    pub came_back: u64,
}

impl Removed {
    /// Everything that had a name.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.files + self.folders + self.links + self.special
    }

    pub(super) fn count(&mut self, seen: &Seen) {
        match seen.kind {
            Kind::File => {
                self.files += 1;
                self.linked += u64::from(seen.links > 1);
                self.set_id += u64::from(seen.set_id);
            }
            Kind::Folder => self.folders += 1,
            Kind::Link => self.links += 1,
            Kind::Pipe | Kind::Socket | Kind::Device => self.special += 1,
        }
    }

    /// Counts these as well.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        let deepest = self.deepest.max(other.deepest);
        for (own, theirs) in self.fields().into_iter().zip(other.fields()) {
            *own += *theirs;
        }
        self.deepest = deepest;
    }

    fn fields(&mut self) -> [&mut u64; 10] {
        [
            &mut self.files,
            &mut self.folders,
            &mut self.links,
            &mut self.special,
            &mut self.linked,
            &mut self.set_id,
            &mut self.protected,
            &mut self.mounts,
            &mut self.deepest,
            &mut self.came_back,
        ]
    }

    /// One line, for the way from one process to the other.
    pub(super) fn to_line(mut self) -> String {
        let fields = self.fields().map(|field| field.to_string());
        fields.join(" ")
    }

    pub(super) fn from_line(line: &str) -> Option<Self> {
        let mut removed = Self::default();
        let mut numbers = line.split(' ');
        for field in removed.fields() {
            *field = numbers.next()?.parse().ok()?;
        }
        numbers.next().is_none().then_some(removed)
    }
}

impl std::fmt::Display for Removed {
    /// What is not there is not said.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            (self.files, "files"),
            (self.folders, "folders"),
            (self.links, "links"),
            (self.special, "special"),
            (self.linked, "linked elsewhere"),
            (self.set_id, "set-id"),
            (self.protected, "immutable"),
            (self.mounts, "mounts"),
            (self.came_back, "came back"),
        ];
        let said = parts.iter().filter(|(count, _)| *count > 0);
        let said: Vec<String> = said
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        out.write_str(&said.join(", "))?;
        match self.deepest {
            0 => Ok(()),
            deepest => write!(out, ", {deepest} deep"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_from_their_line_and_nothing_else_does() {
        let removed = Removed {
            files: 3,
            deepest: u64::MAX,
            came_back: 7,
            ..Removed::default()
        };
        let line = removed.to_line();
        assert_eq!(Removed::from_line(&line), Some(removed));
        for odd in ["", "1 2 3", &format!("{line} 1"), &line.replace('3', "x")] {
            assert_eq!(Removed::from_line(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_count_of_nothing_is_not_said() {
        let removed = Removed {
            files: 2,
            links: 1,
            ..Removed::default()
        };
        assert_eq!(removed.to_string(), "2 files, 1 links");
    }
}
