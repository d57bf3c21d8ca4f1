//! The instructions of tiles for processors that lack them: what they raise is caught, and done here as Intel's manual (volume 2, `LDTILECFG` to `TILEZERO`) says it.
//!
//! Only what [`super::Tiles`] uses; all else ends the process as it would without this.

use std::cell::UnsafeCell;
use std::sync::Once;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// Bytes that a row of a tile has at most.
const LINE: usize = 64;

/// Tiles of a thread, as configured; `None`: they are not.
struct State {
    shapes: Option<[(usize, usize); 8]>,
    tiles: [[[u8; LINE]; 16]; 8],
}

thread_local! {
    static STATE: UnsafeCell<State> = const { UnsafeCell::new(State { shapes: None, tiles: [[[0; LINE]; 16]; 8] }) };
}

/// From now on this process has tiles.
pub(in super::super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler touches nothing but its thread's tiles and what the instruction names.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0);
        }
    });
}

extern "C" fn on_illegal(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives the thread's registers.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    // SAFETY: an instruction lies there, and no other reference to this thread's state lives: no code of this module was interrupted.
    let length = unsafe { STATE.with(|state| (*state.get()).execute(registers)) };
    match length {
        Some(length) => registers[libc::REG_RIP as usize] += length as i64,
        // SAFETY: the same instruction is raised again, and ends the process.
        None => unsafe {
            libc::signal(libc::SIGILL, libc::SIG_DFL);
        },
    }
}

/// A VEX-coded instruction of the map 0F38.
struct Decoded {
    opcode: u8,
    prefix: u8,
    register: usize,
    /// Of a register: its number.
    other: Option<usize>,
    third: usize,
    /// Of memory: where, and how far a row is from the next.
    address: (i64, i64),
    length: usize,
}

/// # Safety
/// `at` is an instruction.
unsafe fn decode(at: *const u8, registers: &[i64; 23]) -> Option<Decoded> {
    const NUMBERED: [c_int; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    let value = |number: usize| registers[NUMBERED[number] as usize];
    // SAFETY: as the caller says; more is read only where what was read says that it belongs to it.
    let byte = |n: usize| unsafe { at.add(n).read() };
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let extended = |bit: u8| usize::from(!byte(1) >> bit & 1) << 3;
    let third = usize::from(!byte(2) >> 3 & 15);
    let (prefix, opcode, modrm) = (byte(2) & 3, byte(3), byte(4));
    let (mode, register, low) = (modrm >> 6, usize::from(modrm >> 3 & 7) + extended(7), usize::from(modrm & 7));
    let decoded = Decoded { opcode, prefix, register, other: None, third, address: (0, 0), length: 5 };
    if mode == 3 {
        return Some(Decoded { other: Some(low + extended(5)), ..decoded });
    }
    let (mut length, mut base, mut step) = (5, low, 0);
    if low == 4 {
        let sib = byte(5);
        (length, base) = (6, usize::from(sib & 7));
        let index = usize::from(sib >> 3 & 7) + extended(6);
        step = if index == 4 { 0 } else { value(index) << (sib >> 6) };
    }
    // Without a base, or beside the instruction pointer: not used here.
    if mode == 0 && base == 5 {
        return None;
    }
    let shift = match mode {
        1 => i64::from(byte(length) as i8),
        2 => i64::from(i32::from_le_bytes([0, 1, 2, 3].map(|n| byte(length + n)))),
        _ => 0,
    };
    length += [0, 1, 4][usize::from(mode)];
    Some(Decoded { address: (value(base + extended(5)) + shift, step), length, ..decoded })
}

impl State {
    /// Executes the instruction that the registers point at, and gives its length; `None`: it is none of these, or not allowed now.
    ///
    /// # Safety
    /// Memory that the instruction names is there.
    unsafe fn execute(&mut self, registers: &[i64; 23]) -> Option<usize> {
        // SAFETY: as the caller says.
        let it = unsafe { decode(registers[libc::REG_RIP as usize] as *const u8, registers) }?;
        let (from, step) = it.address;
        let lines = |rows: usize| (0..rows as i64).map(move |row| (from + row * step) as *mut u8);
        match (it.opcode, it.prefix, it.other) {
            // LDTILECFG
            (0x49, 0, None) => {
                // SAFETY: the instruction reads 64 bytes.
                let config = unsafe { (from as *const [u8; LINE]).read() };
                let shape = |at: usize| {
                    let bytes = u16::from_le_bytes([config[16 + 2 * at], config[17 + 2 * at]]);
                    (usize::from(config[48 + at]), usize::from(bytes))
                };
                let shapes: [(usize, usize); 8] = std::array::from_fn(shape);
                let is_right = config[0] == 1
                    && config[1..16].iter().chain(&config[32..48]).chain(&config[56..]).all(|byte| *byte == 0)
                    && shapes.iter().all(|(rows, bytes)| *rows <= 16 && *bytes <= LINE);
                is_right.then_some(())?;
                *self = Self { shapes: Some(shapes), tiles: [[[0; LINE]; 16]; 8] };
            }
            // TILERELEASE
            (0x49, 0, Some(0)) if it.register == 0 => self.shapes = None,
            // TILELOADD
            (0x4b, 3, None) => {
                let (rows, bytes) = self.shapes?[it.register];
                self.tiles[it.register] = [[0; LINE]; 16];
                for (line, at) in self.tiles[it.register].iter_mut().zip(lines(rows)) {
                    // SAFETY: the instruction reads so many bytes of each row.
                    unsafe { line.as_mut_ptr().copy_from(at, bytes) };
                }
            }
            // TILESTORED
            (0x4b, 2, None) => {
                let (rows, bytes) = self.shapes?[it.register];
                for (line, at) in self.tiles[it.register].iter().zip(lines(rows)) {
                    // SAFETY: the instruction writes so many bytes of each row.
                    unsafe { line.as_ptr().copy_to(at, bytes) };
                }
            }
            // TDPBSUD: the first factor has a sign, the second none.
            (0x5e, 2, Some(first)) => {
                let (shapes, second) = (self.shapes?, it.third);
                let ((rows, bytes), (_, inner)) = (shapes[it.register], shapes[first]);
                let fits = shapes[first].0 == rows && shapes[second] == (inner / 4, bytes);
                (fits && it.register != first && it.register != second && first != second).then_some(())?;
                for m in 0..rows {
                    for n in 0..bytes / 4 {
                        let sum = &self.tiles[it.register][m][4 * n..4 * n + 4];
                        let mut sum = i32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
                        for k in 0..inner {
                            let (a, b) = (self.tiles[first][m][k] as i8, self.tiles[second][k / 4][4 * n + k % 4]);
                            sum = sum.wrapping_add(i32::from(a) * i32::from(b));
                        }
                        self.tiles[it.register][m][4 * n..4 * n + 4].copy_from_slice(&sum.to_le_bytes());
                    }
                }
            }
            _ => return None,
        }
        Some(it.length)
    }
}
