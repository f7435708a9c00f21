//! The kernel's monitor: what one does to a computer from outside. One request, a datagram on a Unix socket; format:
//! `struct mconsole_request` in Linux, `arch/um/drivers/mconsole.h`.

use std::os::unix::net::UnixDatagram;

use anyhow::Context as _;

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
/// Room for the text of a request.
const MAX_DATA: usize = 512;

/// Presses Ctrl, Alt and Del, which is what this kernel has for a power button: the machine's systemd is told, and
/// powers off as its `ctrl-alt-del.target` says. Nobody answers: the kernel could not reach a socket of the host.
pub(super) fn press_ctrl_alt_del(launcher: i32) -> anyhow::Result<()> {
    // The launcher works in the machine's directory, whose own path may be longer than a socket's may be.
    let kernel = format!("/proc/{launcher}/cwd/monitor/mconsole");
    UnixDatagram::unbound()?
        .send_to(&request("cad"), &kernel)
        .with_context(|| format!("no kernel listens at {kernel}"))?;
    Ok(())
}

fn request(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or_default();
    let header = [MAGIC, VERSION, length].map(u32::to_ne_bytes).concat();
    let mut request = [&header, text.as_bytes()].concat();
    request.resize(header.len() + MAX_DATA, 0);
    request
}
