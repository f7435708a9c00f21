//! The warm door: what it carries beside systemd's own proxy and beside none, and what idle clients cost it.

use serde::Deserialize;

use super::{AGENTS, Bench};
use crate::{
    bench::{
        Latency, Measured, Peer, Report, Row, Target,
        measured::{figure, percentile},
    },
    machine::images::nanobot,
    progress,
};

/// Megabytes of one answer.
const DOWNLOAD: usize = 256;
/// Runs of a download.
const DOWNLOADS: usize = 7;
/// Requests in one go to the door, then to its peers.
const REQUESTS: usize = 500;
/// How often each is asked.
const TURNS: usize = 6;
/// Clients that say nothing.
const CROWD: usize = 10_000;

#[derive(Debug, Deserialize)]
struct Crowd {
    /// MiB of the door's process.
    rss: f64,
    /// MiB that its unit is charged for, the kernel's buffers among them.
    charged: f64,
}

impl Bench {
    /// The warm door beside systemd's own proxy in the same slice and namespace, and beside no proxy.
    pub fn door(&self, report: &mut Report) -> anyhow::Result<()> {
        const PROXY: &str = "/run/bench-proxy.sock";
        let tenant = AGENTS[0].tenant(1);
        let mut rates: [Vec<f64>; 3] = Default::default();
        let mut latencies: [Latency; 3] = Default::default();
        progress::step(
            format!(
                "{DOWNLOADS} downloads and {TURNS} × {REQUESTS} requests by the door, by systemd-socket-proxyd, directly"
            ),
            || {
                self.apply(&AGENTS[0], "sleep.after = \"1h\"\n")?;
                self.machine.run(["tenantd", "wake", &tenant])?;
                self.machine.script(&proxy_units(&tenant, PROXY))?;
                let inside = [
                    "nsenter".to_owned(),
                    format!("--net=/run/netns/tenant-{tenant}"),
                ];
                let inside = [inside[0].as_str(), inside[1].as_str()];
                let ways: [(&[&str], &str); 3] = [(&[], &tenant), (&[], PROXY), (&inside, "agent")];
                for turn in 0..=DOWNLOADS {
                    for ((before, place), rates) in ways.iter().zip(&mut rates) {
                        let words = ["download", place, &DOWNLOAD.to_string()].map(str::to_owned);
                        let rate = self.measure_by(before, words)?;
                        // The first ones start what they go through.
                        if turn > 0 {
                            rates.push(rate);
                        }
                    }
                }
                for _ in 0..TURNS {
                    for ((before, place), latencies) in ways.iter().zip(&mut latencies) {
                        let words = ["latency", place, &REQUESTS.to_string()].map(str::to_owned);
                        latencies.take(self.measure_by(before, words)?);
                    }
                }
                Ok(())
            },
        )?;
        let [ours, proxy, direct] = rates.map(Measured::of);
        let ours = ours?;
        for (measured, version, target) in [
            (
                proxy?,
                "systemd-socket-proxyd",
                Target::AtLeastTimesPeer(1.0),
            ),
            (
                direct?,
                "TCP to the agent, within its namespace",
                Target::None,
            ),
        ] {
            report.add(Row {
                measure: format!("warm door: a download of {DOWNLOAD} MiB"),
                ours,
                peer: Some(Peer {
                    measured,
                    version: version.to_owned(),
                }),
                unit: "MiB/s",
                target,
                limits: "the client in Python, the agent and the door share the processors"
                    .to_owned(),
            });
        }
        let [mut ours, mut proxy, mut direct] = latencies;
        for (what, pick) in [
            (
                "request on a new connection",
                (|all: &mut Latency| &mut all.new) as fn(&mut Latency) -> &mut Vec<f64>,
            ),
            ("64 bytes and back on an open connection", |all| {
                &mut all.open
            }),
        ] {
            for (name, rank) in [("median", 0.5), ("p99", 0.99)] {
                for (peer, version, target) in [
                    (&mut proxy, "systemd-socket-proxyd", Target::TimesPeer(1.0)),
                    (
                        &mut direct,
                        "TCP to the agent, within its namespace",
                        Target::None,
                    ),
                ] {
                    report.add(Row {
                        measure: format!("warm door: {what}, {name}"),
                        ours: percentile(pick(&mut ours), rank)?,
                        peer: Some(Peer {
                            measured: percentile(pick(peer), rank)?,
                            version: version.to_owned(),
                        }),
                        unit: "µs",
                        target: if rank < 0.9 { target } else { Target::None },
                        limits: String::new(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Clients that stay and say nothing.
    pub fn crowd(&self, report: &mut Report) -> anyhow::Result<()> {
        let crowd: Crowd = progress::step(
            format!("{CROWD} idle WebSockets to one tenant"),
            || {
                let spec = format!(
                    "id = \"crowd\"\nplan = \"team\"\nimage = \"{}\"\ningress.port = 8080\nprobes.start.path = \"/healthz\"\n\
                 container.command = [\"python3\", \"-c\", '''{ECHO}''']\n",
                    nanobot::reference()
                );
                self.machine.write("/root/crowd.toml", spec)?;
                self.machine.run(["tenantd", "apply", "/root/crowd.toml"])?;
                self.measure(["crowd", "crowd", &CROWD.to_string()])
            },
        )?;
        report.add(Row {
            measure: format!("door: {CROWD} idle WebSockets, RSS"),
            ours: crowd.rss.into(),
            peer: None,
            unit: "MiB",
            target: Target::AtMost(60.0),
            limits: format!(
                "with the kernel's buffers its unit is charged for {} MiB",
                figure(crowd.charged)
            ),
        });
        self.remove(&["crowd".to_owned()])
    }
}

/// systemd's own proxy, started by its socket as the door is, in the tenant's slice and namespace.
fn proxy_units(tenant: &str, socket: &str) -> String {
    format!(
        "cat >/run/systemd/system/bench-proxy.socket <<'END'\n[Socket]\nListenStream={socket}\nEND\n\
         cat >/run/systemd/system/bench-proxy.service <<'END'\n[Service]\n\
         ExecStart=/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:8080\n\
         NetworkNamespacePath=/run/netns/tenant-{tenant}\nSlice=tenant-{tenant}.slice\nEND\n\
         systemctl daemon-reload && systemctl start bench-proxy.socket\n"
    )
}

/// An agent of one thread that holds any number of connections: a probe's answer, else an upgrade and an echo.
const ECHO: &str = r#"
import asyncio, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
async def serve(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET /healthz"):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
    else:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 8080, limit=4096, backlog=4096)
    await server.serve_forever()
asyncio.run(main())
"#;
