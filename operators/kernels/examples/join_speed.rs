//! How far is the join's product from bare gemm? `cargo run --release -p trommel-kernels --example join_speed [rows points dim]`
//!
//! Prints GFLOP/s of `gemm` on the whole matrix widened beforehand (the limit), and of [`Block::fill`], which widens tiles as it goes
//! and scans them for maxima and excess. The limit of this bench: one thread but for the last line, random values, matrices warm in cache as far as they fit.

use std::io::Write;
use std::time::Instant;

use half::f16;
use trommel_kernels::int8::{Instructions, Points, Rows, Scores};
use trommel_kernels::join::{Block, Tiling};

fn main() -> std::io::Result<()> {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [rows, points, dim] = sizes.try_into().unwrap_or([64, 10_000, 640]);
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u32 << 24) as f32 - 0.5) * 0.07
    };
    let x: Vec<f32> = (0..rows * dim).map(|_| f16::from_f32(noise()).to_f32()).collect();
    let t: Vec<f16> = (0..points * dim).map(|_| f16::from_f32(noise())).collect();
    let wide: Vec<f32> = t.iter().map(|x| x.to_f32()).collect();
    let radii = vec![0.5f32; points];
    let flops = 2.0 * (rows * points * dim) as f64;
    let mut out = std::io::stdout().lock();
    let mut best = |name: &str, work: &mut dyn FnMut()| {
        let mut least = f64::INFINITY;
        for _ in 0..10 {
            let start = Instant::now();
            work();
            least = least.min(start.elapsed().as_secs_f64());
        }
        let gflops = flops / least / 1e9;
        writeln!(out, "{name:32} {:8.3} ms {gflops:7.1} GFLOP/s", least * 1e3).map(|()| gflops)
    };
    let mut product = vec![0.0f32; rows * points];
    let bare = best("gemm, whole, widened beforehand", &mut || {
        // SAFETY: three dense row-major matrices of these sizes.
        unsafe {
            gemm::gemm(
                rows,
                points,
                dim,
                product.as_mut_ptr(),
                1,
                points as isize,
                false,
                x.as_ptr(),
                1,
                dim as isize,
                wide.as_ptr(),
                dim as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    })?;
    let mut block = Block::default();
    for tile_bytes in [128 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20] {
        let tiling = Tiling { tile_bytes, threads: 1 };
        let name = format!("Block::fill, tile {} KiB", tile_bytes >> 10);
        let plain = best(&name, &mut || block.fill(&x, &t, dim, None, tiling))?;
        let name = format!("  with excess, {:.0} % of gemm", 100.0 * plain / bare);
        best(&name, &mut || block.fill(&x, &t, dim, Some(&radii), tiling))?;
    }
    let threads = rayon::current_num_threads();
    let tiling = Tiling { threads, ..Tiling::default() };
    best(&format!("  on {threads} threads"), &mut || block.fill(&x, &t, dim, Some(&radii), tiling))?;
    let unit = |vectors: &[f16]| -> Vec<f16> {
        let unit = |vector: &[f16]| {
            let norm = trommel_kernels::dot::norm(vector);
            vector.iter().map(|x| f16::from_f64(x.to_f64() / norm)).collect::<Vec<_>>()
        };
        vectors.chunks(dim).flat_map(unit).collect()
    };
    let narrow: Vec<f16> = x.iter().map(|x| f16::from_f32(*x)).collect();
    let (x, t) = (unit(&narrow), unit(&t));
    let x: Vec<&[f16]> = x.chunks(dim).collect();
    let radii = vec![0.5f64; points];
    let (mut rows, mut scores) = (Rows::default(), Scores::default());
    for with in Instructions::all().filter(|with| *with != Instructions::Portable) {
        let coded = Points::new(&t, dim, Some(&radii), with);
        best(&format!("codes of the rows, {}", with.name()), &mut || rows.code(&x, &coded))?;
        for threads in [1, threads] {
            let name = format!("Scores::fill, {}, {threads} threads", with.name());
            let plain = best(&name, &mut || scores.fill(&mut rows, &coded, false, threads))?;
            let name = format!("  with excess, {:.2} of gemm", plain / bare);
            best(&name, &mut || scores.fill(&mut rows, &coded, true, threads))?;
        }
    }
    Ok(())
}
