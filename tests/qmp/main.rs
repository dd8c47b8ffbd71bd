//! The QMP client: its session alone, over sockets with a scripted monitor, and against QEMU.

mod bytes;
mod drive;
mod live;
mod oob;
mod pair;
mod session;
mod transport;
