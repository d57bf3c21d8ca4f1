//! A group of pictures in the card's memory: where everything lies, and the descriptors that say so to the kernels.
//!
//! ```text
//!  | descriptors, tables | planes, RGB, rows between the passes | views |
//!    one upload                                                  one download
//! ```

use std::ops::Range;

use super::grids::{Extent, Run, blocks, runs};
use super::plan::{Prepared, ViewPlan};

/// Everything begins at a multiple of this.
const ALIGNED: u64 = 256;

/// Bytes of a descriptor of each kind: the structs of `kernels.cu`, of 64-bit fields only.
const PICTURE_BYTES: u64 = 18 * 8;
const VIEW_BYTES: u64 = 13 * 8;

/// The kernels, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Colour,
    Rows,
    Columns,
}

impl Kernel {
    pub const ALL: [Self; 3] = [Self::Colour, Self::Rows, Self::Columns];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Colour => "trommel_colour",
            Self::Rows => "trommel_rows",
            Self::Columns => "trommel_columns",
        }
    }
}

/// One kernel over a grid of blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launch {
    pub kernel: Kernel,
    /// Where its descriptors begin.
    pub descriptors: u64,
    pub grid: [u32; 3],
}

/// A plane that the decoder writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plane {
    /// First byte in the arena.
    pub offset: u64,
    /// Bytes from one row to the next.
    pub pitch: u64,
    pub width: u32,
    pub height: u32,
}

/// What a group may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes of the upload to the card.
    pub upload: u64,
    /// Of the arena, upload and views included.
    pub arena: u64,
    /// Of the download.
    pub download: u64,
}

impl Room {
    /// What one picture takes at most.
    pub fn of(picture: &Prepared) -> Self {
        let views = || picture.views.iter().flatten();
        let mut room = Cursor(0);
        let tables = views().flat_map(|view| table_bytes(view).into_iter().chain([VIEW_BYTES]));
        room.take_all(tables.chain([PICTURE_BYTES]));
        let upload = room.0;
        room.take_all(planes(picture).into_iter().map(|(_, bytes)| bytes));
        room.take_all(views().map(between_bytes).chain([rgb_bytes(picture)]));
        let before = room.0;
        room.take_all(views().map(out_bytes));
        Self { upload, arena: room.0, download: room.0 - before }
    }

    pub fn with(self, other: Self) -> Self {
        let Self { upload, arena, download } = other;
        Self { upload: self.upload + upload, arena: self.arena + arena, download: self.download + download }
    }

    pub fn holds(self, needed: Self) -> bool {
        needed.upload <= self.upload && needed.arena <= self.arena && needed.download <= self.download
    }
}

struct Cursor(u64);

impl Cursor {
    fn take(&mut self, bytes: u64) -> u64 {
        let at = self.0;
        self.0 = (at + bytes).next_multiple_of(ALIGNED);
        at
    }

    fn take_all(&mut self, bytes: impl Iterator<Item = u64>) {
        for bytes in bytes {
            self.take(bytes);
        }
    }
}

/// A picture's planes, without their places, and the bytes of each: luma, then chroma twice where there is any. Decoders may write
/// whole blocks, and more than one at a time.
fn planes(picture: &Prepared) -> Vec<(Plane, u64)> {
    let (across, down) = picture.sampling.shrink();
    let plane = |shrink_x: u32, shrink_y: u32| {
        let blocks = |side: u32, most: u32, shrink: u32| {
            u64::from(side.next_multiple_of(8 * most) / shrink).next_multiple_of(64)
        };
        let (pitch, rows) = (blocks(picture.width, across, shrink_x), blocks(picture.height, down, shrink_y));
        let (width, height) = (picture.width.div_ceil(shrink_x), picture.height.div_ceil(shrink_y));
        (Plane { offset: 0, pitch, width, height }, pitch * rows)
    };
    let mut planes = vec![plane(1, 1)];
    if !picture.is_grey() {
        planes.extend([plane(across, down); 2]);
    }
    planes
}

fn rgb_bytes(picture: &Prepared) -> u64 {
    u64::from(picture.width) * u64::from(picture.height) * 3
}

fn between_bytes(view: &ViewPlan) -> u64 {
    u64::from(view.rows().1) * u64::from(view.size()) * 3
}

fn out_bytes(view: &ViewPlan) -> u64 {
    u64::from(view.size()).pow(2) * 3
}

/// Bytes of a view's tables: runs and coefficients along the rows, then down the columns.
fn table_bytes(view: &ViewPlan) -> [u64; 4] {
    let [(along_runs, along), (down_runs, down)] =
        [&view.along, &view.down].map(|taps| (taps.runs().len() as u64 * 8, taps.fixed().len() as u64 * 4));
    [along_runs, along, down_runs, down]
}

/// Where everything of a group lies.
#[derive(Debug)]
pub(super) struct Layout {
    /// Bytes written for the upload.
    pub upload_bytes: u64,
    /// Of each picture, the planes that its decoder writes.
    pub planes: Vec<Vec<Plane>>,
    /// Of each picture, its RGB, u8\[height, width, 3\].
    pub rgb: Vec<Range<u64>>,
    /// Of each picture, the embedder's view and the trainer's.
    pub views: Vec<[Option<Range<u64>>; 2]>,
    /// The bytes of all views, which go back to the host.
    pub download: Range<u64>,
    /// A kernel's launches stand together, and the kernels in their order.
    pub launches: Vec<Launch>,
}

/// Lays out `pictures`, and writes to `upload`, which goes to the arena's beginning, what the kernels must know. All of RGB is made
/// if it is to be looked at `whole`.
pub(super) fn lay_out(pictures: &[&Prepared], upload: &mut [u8], whole: bool) -> Layout {
    let views = || pictures.iter().flat_map(|picture| picture.views.iter().flatten());
    let mut cursor = Cursor(0);
    let picture_at = cursor.take(PICTURE_BYTES * pictures.len() as u64);
    let view_at = cursor.take(VIEW_BYTES * views().count() as u64);
    let tables: Vec<[u64; 4]> = views().map(|view| table_bytes(view).map(|bytes| cursor.take(bytes))).collect();
    let upload_bytes = cursor.0;
    for (view, places) in views().zip(&tables) {
        for (taps, [runs_at, fixed_at]) in [(&view.along, [places[0], places[1]]), (&view.down, [places[2], places[3]])]
        {
            let runs = taps.runs().iter().flat_map(|&(start, count)| [start as u32, count as u32]);
            write(upload, runs_at, runs.map(u32::to_ne_bytes));
            write(upload, fixed_at, taps.fixed().iter().map(|c| c.to_ne_bytes()));
        }
    }
    let place = |(plane, bytes): (Plane, u64), cursor: &mut Cursor| Plane { offset: cursor.take(bytes), ..plane };
    let planes: Vec<Vec<Plane>> = pictures
        .iter()
        .map(|picture| planes(picture).into_iter().map(|plane| place(plane, &mut cursor)).collect())
        .collect();
    let rgb: Vec<Range<u64>> = pictures
        .iter()
        .map(|picture| {
            let (at, bytes) = (cursor.take(rgb_bytes(picture)), rgb_bytes(picture));
            at..at + bytes
        })
        .collect();
    let between: Vec<u64> = views().map(|view| cursor.take(between_bytes(view))).collect();
    let first_out = cursor.0;
    let mut out = |view: &ViewPlan| {
        let at = cursor.take(out_bytes(view));
        at..at + out_bytes(view)
    };
    let outs: Vec<[Option<Range<u64>>; 2]> =
        pictures.iter().map(|picture| picture.views.each_ref().map(|view| view.as_ref().map(&mut out))).collect();
    let download = first_out..cursor.0;

    let region = |at: usize| {
        let picture = pictures[at];
        if whole { [0, 0, picture.width, picture.height] } else { picture.looks_at() }
    };
    let regions: Vec<[u32; 4]> = (0..pictures.len()).map(region).collect();
    let extent = |&at: &usize| {
        let [left, top, right, bottom] = regions[at];
        [right - left, bottom - top]
    };
    // Descriptors lie in an order of their own, in which those of like size are neighbours; all else lies as the pictures came.
    let by_size = sorted(pictures.len(), |at| blocks(extent(at)));
    for (&at, place) in by_size.iter().zip((picture_at..).step_by(PICTURE_BYTES as usize)) {
        describe_picture(pictures[at], &planes[at], regions[at], rgb[at].start, place, upload);
    }
    let mut launches = launches_over(Kernel::Colour, (picture_at, PICTURE_BYTES), by_size.iter().map(extent));

    let of_pictures = pictures.iter().zip(&rgb).zip(&outs);
    let described: Vec<(&Prepared, &ViewPlan, Places)> = of_pictures
        .flat_map(|((picture, rgb), outs)| {
            let views = picture.views.iter().flatten().zip(outs.iter().flatten());
            views.map(move |(view, out)| (*picture, view, rgb.start, out.start))
        })
        .zip(tables.into_iter().zip(between))
        .map(|((picture, view, rgb, out), (tables, between))| (picture, view, Places { rgb, tables, between, out }))
        .collect();
    // By the side first: a kernel looks at the side alone, another at the rows too.
    let by_size = sorted(described.len(), |&number| (described[number].1.size(), described[number].1.rows().1));
    for (&number, place) in by_size.iter().zip((view_at..).step_by(VIEW_BYTES as usize)) {
        let (picture, view, places) = &described[number];
        describe_view(picture, view, places, place, upload);
    }
    let views = || by_size.iter().map(|&number| described[number].1);
    let at = (view_at, VIEW_BYTES);
    launches.extend(launches_over(Kernel::Rows, at, views().map(|view| [view.size(), view.rows().1])));
    launches.extend(launches_over(Kernel::Columns, at, views().map(|view| [view.size() * 3, view.size()])));
    Layout { upload_bytes, planes, rgb, views: outs, download, launches }
}

/// Numbers below `count` by their keys; equal ones as they were.
fn sorted<K: Ord>(count: usize, key: impl FnMut(&usize) -> K) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    numbers.sort_by_key(key);
    numbers
}

/// Launches over descriptors that begin at `at`, each of so many bytes, as they lie.
fn launches_over(kernel: Kernel, (at, bytes): (u64, u64), extents: impl Iterator<Item = Extent>) -> Vec<Launch> {
    let launch = |Run { descriptors, grid: [across, down] }: Run| {
        let count = u32::try_from(descriptors.len()).unwrap_or(0);
        Launch { kernel, descriptors: at + descriptors.start as u64 * bytes, grid: [across, down, count] }
    };
    runs(extents).into_iter().map(launch).collect()
}

fn write<const N: usize>(upload: &mut [u8], at: u64, words: impl Iterator<Item = [u8; N]>) {
    for (place, word) in upload[at as usize..].chunks_exact_mut(N).zip(words) {
        place.copy_from_slice(&word);
    }
}

/// `struct Picture`.
fn describe_picture(picture: &Prepared, planes: &[Plane], region: [u32; 4], rgb: u64, at: u64, upload: &mut [u8]) {
    let (across, down) = picture.sampling.shrink();
    let plane = |number: usize| planes.get(number).copied().unwrap_or_default();
    let three = [plane(0), plane(1), plane(2)];
    let mut words = three.map(|plane| plane.offset).to_vec();
    words.extend(three.map(|plane| plane.pitch));
    words.extend([picture.width, picture.height, across, down, three[1].width, three[1].height].map(u64::from));
    words.push(picture.is_grey().into());
    words.extend(region.map(u64::from));
    words.push(rgb);
    debug_assert_eq!(words.len() as u64 * 8, PICTURE_BYTES);
    write(upload, at, words.into_iter().map(u64::to_ne_bytes));
}

struct Places {
    rgb: u64,
    tables: [u64; 4],
    between: u64,
    out: u64,
}

/// Writes what the kernels read of a view, their `struct View`, into `upload` from byte `at` on.
fn describe_view(picture: &Prepared, view: &ViewPlan, places: &Places, at: u64, upload: &mut [u8]) {
    let stride = u64::from(picture.width) * 3;
    let area = view.placement.area;
    let corner = places.rgb + u64::from(area.top) * stride + u64::from(area.left) * 3;
    let (first_row, rows) = view.rows();
    let [along_runs, along_taps, down_runs, down_taps] = places.tables;
    let (along_width, down_width) = (view.along.width() as u64, view.down.width() as u64);
    let mut words = vec![corner, stride, rows.into(), first_row.into(), view.size().into()];
    words.extend([along_runs, along_taps, along_width, down_runs, down_taps, down_width, places.between, places.out]);
    debug_assert_eq!(words.len() as u64 * 8, VIEW_BYTES);
    write(upload, at, words.into_iter().map(u64::to_ne_bytes));
}
