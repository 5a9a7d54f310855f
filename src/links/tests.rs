use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A tree with one file that has two names, `dir/one` and `two`.
struct Tree {
    dir: TempDir,
    root: SourceRoot,
    index: LinkIndex,
}

impl Tree {
    fn new() -> io::Result<Self> {
        let dir = TempDir::new()?;
        fs::create_dir(dir.path().join("dir"))?;
        fs::write(dir.path().join("dir/one"), "content")?;
        fs::hard_link(dir.path().join("dir/one"), dir.path().join("two"))?;
        let root = SourceRoot::open(dir.path())?;
        let index = LinkIndex::default();
        Ok(Self { dir, root, index })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn stat(&self, name: &str) -> Stat {
        stat_below(&self.root, &path(name)).expect("it is there")
    }

    fn others(&self, name: &str) -> OtherNames {
        let stat = self.stat(name);
        self.index
            .other_names(&self.root, &path(name), &stat, &mut false)
    }
}

fn path(name: &str) -> RelPath {
    RelPath::new(name.as_bytes()).expect("a path")
}

fn complete(names: &[&str]) -> OtherNames {
    OtherNames {
        names: names.iter().map(|name| path(name)).collect(),
        complete: true,
    }
}

#[test]
fn one_walk_finds_all_names_and_none_is_needed_after_it() -> io::Result<()> {
    let tree = Tree::new()?;
    assert_eq!(tree.others("two"), complete(&["dir/one"]));
    let stat = tree.stat("dir/one");
    let mut no_walk_is_left = true;
    let others = tree
        .index
        .other_names(&tree.root, &path("dir/one"), &stat, &mut no_walk_is_left);
    assert_eq!(others, complete(&["two"]));
    Ok(())
}

#[test]
fn names_outside_the_tree_are_looked_for_twice_and_again_when_a_tree_comes_in() -> io::Result<()> {
    let tree = Tree::new()?;
    let outside = TempDir::new_in(tree.dir.path().parent().expect("a parent"))?;
    fs::rename(tree.at("dir"), outside.path().join("dir"))?;
    // A name may have been on its way to where the walk had been.
    assert!(!tree.others("two").complete);
    assert_eq!(tree.others("two"), complete(&[]));
    fs::rename(outside.path().join("dir"), tree.at("dir"))?;
    tree.index.on_tree_changed();
    assert_eq!(tree.others("two"), complete(&["dir/one"]));
    Ok(())
}

#[test]
fn a_name_that_another_file_has_got_leads_to_what_it_stood_for() -> io::Result<()> {
    let tree = Tree::new()?;
    let _ = tree.others("two");
    fs::write(tree.at("three"), "another file")?;
    fs::rename(tree.at("three"), tree.at("two"))?;
    let inode = Some(tree.stat("two").st_ino);
    let left = tree.index.left_behind(&tree.root, &path("two"), inode);
    assert_eq!(left, Some(vec![path("dir/one")]));
    Ok(())
}

#[test]
fn what_a_name_stood_for_is_looked_for_where_a_renamed_directory_took_it() -> io::Result<()> {
    let tree = Tree::new()?;
    let _ = tree.others("two");
    fs::rename(tree.at("dir"), tree.at("renamed"))?;
    tree.index.on_tree_changed();
    fs::remove_file(tree.at("two"))?;
    let left = || tree.index.left_behind(&tree.root, &path("two"), None);
    assert_eq!(left(), None, "it is to be looked for");
    tree.index.search(&tree.root);
    assert_eq!(left(), Some(vec![path("renamed/one")]));
    fs::remove_file(tree.at("renamed/one"))?;
    tree.index.on_tree_changed();
    assert_eq!(left(), None);
    tree.index.search(&tree.root);
    assert_eq!(left(), Some(Vec::new()), "nothing has it any more");
    assert!(tree.index.known().stood_for(&path("two")).is_empty());
    Ok(())
}

#[test]
fn a_change_of_a_known_name_is_marked_with_its_file() {
    let index = LinkIndex::default();
    let linked = Change {
        linked: Some(7),
        ..Change::written(path("two"))
    };
    assert!(!index.note(&mut [linked]));
    let mut changes = [
        Change::entry(path("two")),
        Change::entry(path("other")),
        Change::subtree(path("two")),
    ];
    assert!(!index.note(&mut changes));
    assert_eq!(
        changes.map(|change| change.linked),
        [Some(7), None, None],
        "a directory is no name of a file"
    );
}

#[test]
fn of_many_files_with_one_name_the_latest_are_remembered() {
    let mut known = Known::default();
    let all = MOST_FORMERS as u64 + 5;
    for inode in 0..=all {
        known.add(inode, path("name"));
    }
    let remembered = known.stood_for(&path("name"));
    assert_eq!(remembered.len(), MOST_FORMERS + 1);
    assert_eq!(remembered.last(), Some(&all), "the present one is the last");
    known.add(all - 1, path("name"));
    let again = known.stood_for(&path("name"));
    assert_eq!(again.last(), Some(&(all - 1)));
    assert_eq!(again.len(), MOST_FORMERS + 1, "none is remembered twice");
}

#[test]
fn a_file_that_gets_the_number_of_one_that_was_looked_for_is_looked_for_itself() {
    let mut known = Known::default();
    known.add(7, path("old"));
    known.searched.insert(7);
    known.partly_outside.insert(7, Searched::twice(2, 1));
    known.add(7, path("old"));
    assert!(known.searched.contains(&7), "nothing new was seen");
    known.add(7, path("new"));
    assert!(!known.searched.contains(&7));
    assert!(!known.partly_outside.contains_key(&7));
}

#[test]
fn that_more_was_known_than_there_is_room_for_is_said_once_if_lanes_may_need_it() {
    let index = LinkIndex::default();
    index.known().add(1, path("name"));
    index.known().make_room(MOST_NAMES);
    assert!(!index.note(&mut []), "no name stood for another before");
    index.known().add(1, path("name"));
    index.known().add(2, path("name"));
    index.known().make_room(MOST_NAMES);
    assert!(index.known().names.is_empty());
    assert!(index.note(&mut []));
    assert!(!index.note(&mut []));
}
