//! The QMP client: its session alone, over sockets with a scripted monitor, and against QEMU.

mod live;
mod script;
mod session;
mod transport;
