//! The frame header, and the tables as they stand before the first scan.

use crate::jpeg::colour::Colour;
use crate::jpeg::scan::{Scan, Table};
use crate::jpeg::{DecodeError, corrupt};

/// Huffman tables and the restart interval, as they stand before the first scan.
#[derive(Default)]
pub(super) struct Tables {
    /// For DC, then for AC.
    pub(super) huffman: [[Option<Table>; 4]; 2],
    pub(super) restart: u16,
}

impl Tables {
    pub(super) fn define(&mut self, mut body: &[u8]) {
        while let Some((&which, rest)) = body.split_first() {
            let Some((table, rest)) = Table::read(rest) else { return };
            if let Some(place) = self.huffman.get_mut(usize::from(which >> 4)) {
                place[usize::from(which & 3)] = Some(table);
            }
            body = rest;
        }
    }
}

pub(super) struct Frame {
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) progressive: bool,
    pub(super) arithmetic: bool,
    pub(super) ids: Vec<u8>,
    pub(super) sampling: Vec<(u8, u8)>,
}

impl Frame {
    pub(super) fn parse(marker: u8, body: &[u8]) -> Result<Self, DecodeError> {
        let [precision, h1, h0, w1, w0, count, components @ ..] = body else {
            return Err(corrupt("frame header cut short"));
        };
        if *precision != 8 {
            return Err(DecodeError::Unsupported { kind: "JPEG", detail: format!("{precision} bits a sample") });
        }
        if components.len() != usize::from(*count) * 3 {
            return Err(corrupt("frame header of the wrong length"));
        }
        let sampling: Vec<(u8, u8)> = components.chunks_exact(3).map(|c| (c[1] >> 4, c[1] & 0x0f)).collect();
        if sampling.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(corrupt(format!("sampling factors {sampling:?}")));
        }
        let (height, width) = (u16::from_be_bytes([*h1, *h0]), u16::from_be_bytes([*w1, *w0]));
        let ids = components.chunks_exact(3).map(|c| c[0]).collect();
        Ok(Self {
            width,
            height,
            progressive: matches!(marker, 0xc2 | 0xca),
            arithmetic: marker >= 0xc9,
            ids,
            sampling,
        })
    }

    /// The scan of all components whose header's body is given; `None` where it contradicts the frame, or a table is missing.
    pub(super) fn scan<'a>(&self, tables: &'a Tables, body: &[u8]) -> Option<Scan<'a>> {
        let mut blocks = Vec::new();
        for chosen in body.get(1..1 + 2 * self.ids.len())?.chunks_exact(2) {
            let (h, v) = self.sampling[self.ids.iter().position(|&id| id == chosen[0])?];
            let count = if self.ids.len() == 1 { 1 } else { usize::from(h * v) };
            let table = |class: usize, which: u8| tables.huffman[class][usize::from(which & 3)].as_ref();
            blocks.extend(std::iter::repeat_n((table(0, chosen[1] >> 4)?, table(1, chosen[1])?), count));
        }
        Some(Scan { units: self.units(), blocks, restart: tables.restart })
    }

    /// Units in a scan of all components.
    pub(super) fn units(&self) -> u64 {
        let (across, down) = self.sampling.iter().fold((1, 1), |(h, v), &(a, b)| (h.max(a), v.max(b)));
        let (across, down) = if self.ids.len() == 1 { (1, 1) } else { (across, down) };
        let units = |side: u16, most: u8| u64::from(side).div_ceil(8 * u64::from(most));
        units(self.width, across) * units(self.height, down)
    }

    /// libjpeg's rules: JFIF means YCbCr, else Adobe's word counts, else the components' names.
    pub(super) fn colour(&self, adobe: Option<u8>, jfif: bool) -> Result<Colour, DecodeError> {
        match self.sampling.len() {
            1 => Ok(Colour::Grey),
            3 if jfif => Ok(Colour::YCbCr),
            3 => Ok(match adobe {
                Some(0) => Colour::Rgb,
                Some(_) => Colour::YCbCr,
                None if self.ids == *b"RGB" => Colour::Rgb,
                None => Colour::YCbCr,
            }),
            4 => Ok(match adobe {
                None | Some(0) => Colour::Cmyk,
                Some(_) => Colour::Ycck,
            }),
            n => Err(DecodeError::Unsupported { kind: "JPEG", detail: format!("{n} components") }),
        }
    }
}
