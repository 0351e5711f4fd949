//! Architectures as a filter sees them: the token in `seccomp_data.arch`, where the arguments lie, what is multiplexed.

use anyhow::{Result, bail};
use oci_spec::runtime::Arch;

use super::table::Column;

/// The bit that tells an x32 call from an x86_64 call; both carry the token of x86_64 (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// One ABI of one architecture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Abi {
    /// AUDIT_ARCH_* of linux/audit.h.
    pub token: u32,
    pub column: Column,
    /// Arguments are 64 bits wide. On the others the upper half of a value in the profile is ignored, as libseccomp does.
    pub wide: bool,
    /// Added to every number of the table.
    pub base: u32,
    /// socketcall(2) and ipc(2), where they stand for the calls they multiplex.
    pub multiplexers: Option<Multiplexers>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Multiplexers {
    pub socketcall: u32,
    pub ipc: u32,
}

impl Abi {
    /// The ABI this program runs on, which every filter covers.
    pub(super) fn native() -> Result<Self> {
        match NATIVE {
            Some(arch) => Self::of(arch),
            None => bail!("no system call table for this machine's architecture"),
        }
    }

    /// The ABI of an architecture in the profile.
    ///
    /// An architecture of the other byte order is refused, as libseccomp and runc refuse it: `seccomp_data` is in the
    /// host's order, a program reads one or the other. PA-RISC, m68k and SuperH have no table here; runc knows none of
    /// them either.
    pub(super) fn of(arch: Arch) -> Result<Self> {
        use Arch as A;
        use Column as C;
        let wide = |column| Self { token: arch as u32, column, wide: true, base: 0, multiplexers: None };
        let narrow = |column| Self { wide: false, ..wide(column) };
        let (big_endian, abi) = match arch {
            A::ScmpArchNative => return Self::native(),
            A::ScmpArchX86 => (false, narrow(C::X86).multiplexed(102, 117)),
            A::ScmpArchX86_64 => (false, wide(C::X86_64)),
            A::ScmpArchX32 => (false, Self { token: A::ScmpArchX86_64 as u32, base: X32_BIT, ..narrow(C::X32) }),
            A::ScmpArchArm => (false, narrow(C::Arm)),
            A::ScmpArchAarch64 => (false, wide(C::Aarch64)),
            A::ScmpArchMips => (true, narrow(C::Mips).multiplexed(4102, 4117)),
            A::ScmpArchMipsel => (false, narrow(C::Mips).multiplexed(4102, 4117)),
            A::ScmpArchMips64 => (true, wide(C::Mips64)),
            A::ScmpArchMipsel64 => (false, wide(C::Mips64)),
            A::ScmpArchMips64n32 => (true, narrow(C::Mips64n32)),
            A::ScmpArchMipsel64n32 => (false, narrow(C::Mips64n32)),
            A::ScmpArchPpc => (true, narrow(C::Ppc).multiplexed(102, 117)),
            A::ScmpArchPpc64 => (true, wide(C::Ppc64).multiplexed(102, 117)),
            A::ScmpArchPpc64le => (false, wide(C::Ppc64).multiplexed(102, 117)),
            A::ScmpArchS390 => (true, narrow(C::S390).multiplexed(102, 117)),
            A::ScmpArchS390x => (true, wide(C::S390x).multiplexed(102, 117)),
            A::ScmpArchRiscv64 => (false, wide(C::Riscv64)),
            A::ScmpArchLoongarch64 => (false, wide(C::Loongarch64)),
            A::ScmpArchParisc | A::ScmpArchParisc64 | A::ScmpArchM68k | A::ScmpArchSh | A::ScmpArchSheb => {
                bail!("no system call table for {arch}")
            }
        };
        if big_endian != cfg!(target_endian = "big") {
            bail!("{arch} has not the byte order of this machine");
        }
        Ok(abi)
    }

    fn multiplexed(self, socketcall: u32, ipc: u32) -> Self {
        Self { multiplexers: Some(Multiplexers { socketcall, ipc }), ..self }
    }
}

/// The calls of socketcall(2), from 1 on (linux/net.h), and those of ipc(2) (linux/ipc.h).
#[rustfmt::skip]
const SOCKET_CALLS: [&str; 20] = [
    "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
    "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg",
    "sendmmsg",
];
#[rustfmt::skip]
const IPC_CALLS: [(&str, u8); 12] = [
    ("semop", 1), ("semget", 2), ("semctl", 3), ("semtimedop", 4), ("msgsnd", 11), ("msgrcv", 12), ("msgget", 13),
    ("msgctl", 14), ("shmat", 21), ("shmdt", 22), ("shmget", 23), ("shmctl", 24),
];

/// How a call is reached through socketcall(2) or ipc(2): which of them, and its first argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Multiplexed {
    Socketcall(u8),
    Ipc(u8),
}

impl Multiplexed {
    pub(super) fn find(name: &str) -> Option<Self> {
        // Most names are none of these: their first letter decides without a search.
        if !matches!(name.as_bytes().first(), Some(b'a' | b'b' | b'c' | b'g' | b'l' | b'm' | b'r' | b's')) {
            return None;
        }
        let socket = SOCKET_CALLS.iter().zip(1..).find(|(call, _)| **call == name);
        let ipc = || IPC_CALLS.iter().find(|(call, _)| *call == name);
        socket.map(|(_, number)| Self::Socketcall(number)).or_else(|| ipc().map(|(_, number)| Self::Ipc(*number)))
    }
}

/// The other architectures whose programs a kernel of this one may run.
pub(super) const COMPATIBLE: &[Arch] = if cfg!(target_arch = "x86_64") {
    &[Arch::ScmpArchX86, Arch::ScmpArchX32]
} else if cfg!(target_arch = "aarch64") {
    &[Arch::ScmpArchArm]
} else if cfg!(target_arch = "s390x") {
    &[Arch::ScmpArchS390]
} else {
    &[]
};

const NATIVE: Option<Arch> = if cfg!(target_arch = "x86_64") {
    Some(if cfg!(target_pointer_width = "64") { Arch::ScmpArchX86_64 } else { Arch::ScmpArchX32 })
} else if cfg!(target_arch = "aarch64") {
    Some(Arch::ScmpArchAarch64)
} else if cfg!(target_arch = "riscv64") {
    Some(Arch::ScmpArchRiscv64)
} else if cfg!(target_arch = "loongarch64") {
    Some(Arch::ScmpArchLoongarch64)
} else if cfg!(target_arch = "s390x") {
    Some(Arch::ScmpArchS390x)
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Some(Arch::ScmpArchPpc64le)
} else if cfg!(target_arch = "powerpc64") {
    Some(Arch::ScmpArchPpc64)
} else if cfg!(target_arch = "x86") {
    Some(Arch::ScmpArchX86)
} else if cfg!(target_arch = "arm") {
    Some(Arch::ScmpArchArm)
} else {
    None
};
