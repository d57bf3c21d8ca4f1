//! Classes, files and their order beside torchvision's ImageFolder, where a Python that has it is named by `TROMMEL_PEERS`.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use super::*;

const LIST: &str = "
import sys
from torchvision.datasets import ImageFolder
root = sys.argv[1]
found = ImageFolder(root, allow_empty=False)
for path, label in found.samples:
    print(found.classes[label], path[len(root) + 1:], sep='\\t')
";

#[test]
fn classes_and_files_are_image_folders() {
    let Some(python) = crate::skipped::peer("torchvision") else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let files = [
        "n02/images/n02_0.JPEG",
        "n02/images/n02_1.jpg",
        "n02/n02_boxes.txt",
        "n01/a-b/1.png",
        "n01/a/c/2.PPM",
        "n01/a/3.pgm",
        "n01/z.bmp",
        "n01/a b/4.tif",
        "n01/é/5.TIFF",
        "n01/B/6.webp",
        "n01/notes.md",
        "Z/7.jpeg",
        "Z/8.avif",
        "ü/9.jpg",
        "n01/10.jpg",
        "n01/9.jpg",
        "n01/a.d/0.x.jpg",
    ];
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    std::os::unix::fs::symlink(root.join("n02/images"), root.join("Z/linked")).unwrap();
    let out = Command::new(python)
        .args(["-c", LIST])
        .arg(root)
        .env("OMP_NUM_THREADS", "1")
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found = Folders::find(root, &GroupConfig::default()).unwrap();
    let mut ours = String::new();
    for (at, shard) in found.plan.shards.iter().enumerate() {
        for picture in found.pictures_of(at).unwrap().0 {
            ours += &format!("{}\t{}\n", shard.name, picture.path.strip_prefix(root).unwrap().display());
        }
    }
    assert_eq!(ours, String::from_utf8(out.stdout).unwrap());
    assert_eq!(ours.lines().count(), 16);
}
