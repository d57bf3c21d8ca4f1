//! Groups of pictures of many sizes: what each gives alone, and few blocks without work.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use trommel_core::sample::Work;

use super::super::lane::Lane;
use super::super::plan::Prepared;
use super::pillow::photo;
use super::stand_in::{Planes, StandIn, encode};
use super::{ANY, ROOM, config};
use crate::sample_views::{Of, Views};

/// One large picture among small ones, lines, and two that lie and stand, in no order. Of some one view alone is wanted.
const SIZES: [(usize, usize); 12] = [
    (60, 50),
    (61, 52),
    (1000, 700),
    (60, 50),
    (1, 300),
    (700, 2),
    (60, 50),
    (320, 240),
    (240, 320),
    (60, 50),
    (400, 350),
    (33, 47),
];

fn pictures(sizes: &[(usize, usize)]) -> Vec<Prepared> {
    let picture = |(number, &(width, height)): (usize, &(usize, usize))| {
        let jpeg = encode(&photo(width, height, number as u64), width, height, number % 6, 90);
        let work = [Work::Judge, Work::JudgeOnly, Work::Judge, Work::Replay][number % 4];
        Prepared::new(&Bytes::from(jpeg), &config(), Of { work, pass: number as u32, ..ANY }).unwrap()
    };
    sizes.iter().enumerate().map(picture).collect()
}

/// Views of a group, and how many launches and blocks they took.
fn made(pictures: &[&Prepared]) -> (Vec<Option<Views>>, usize, usize) {
    let stand_in = StandIn::new(ROOM, Planes::Turbo);
    let (launches, blocks) = (stand_in.launches.clone(), stand_in.blocks.clone());
    let views = Lane::new(stand_in).views(pictures);
    (views, launches.load(Ordering::Relaxed), blocks.load(Ordering::Relaxed))
}

#[test]
fn each_picture_is_as_alone_and_few_blocks_are_idle() {
    let pictures = pictures(&SIZES);
    let alone: Vec<_> = pictures.iter().map(|picture| made(&[picture])).collect();
    let with_work: usize = alone.iter().map(|(_, _, blocks)| blocks).sum();
    let forwards: Vec<usize> = (0..pictures.len()).collect();
    let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
    for order in [forwards, backwards] {
        let group: Vec<&Prepared> = order.iter().map(|&at| &pictures[at]).collect();
        let (views, launches, blocks) = made(&group);
        for (at, views) in order.iter().zip(views) {
            assert!(views.is_some() && Some(&views) == alone[*at].0.first(), "picture {at}");
        }
        assert!(blocks <= 2 * with_work, "{blocks} blocks, {with_work} of them with work");
        assert!(launches <= 20, "{launches} launches");
    }
}

#[test]
fn pictures_of_one_size_are_one_launch_of_each_kernel() {
    let picture = pictures(&[(60, 50)]).remove(0);
    let (_, _, alone) = made(&[&picture]);
    let (views, launches, blocks) = made(&[&picture; 40]);
    assert!(views.iter().all(|made| made.is_some() && *made == views[0]));
    assert_eq!((launches, blocks), (3, 40 * alone));
}
