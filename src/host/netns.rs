//! A tenant's network namespace: loopback, one private address, and a route that brings
//! 198.18.0.0/15 back to itself. It never connects the namespace to anything.

use std::io;
use std::net::Ipv4Addr;
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::TryStreamExt;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, statfs};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// The namespace's own address besides 127.0.0.1.
///
/// Agents that refuse or bypass a proxy at a loopback address accept it here, and those
/// that publish "their" address find one. It is the same in every namespace, because
/// nothing connects them. It is the last network of 10/8, far from what operators use,
/// and outside 198.18/15 and the ranges of Podman's own bridges (10.88/16, 10.89/16).
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 1);

/// Addresses with which the egress door's name server stands for a name: the network
/// reserved for benchmarks (RFC 2544), so no real destination is hidden.
pub const NAMES: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// `NSFS_MAGIC` of the kernel's `linux/magic.h`: the file system of namespace files.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// The kernel's table of local routes (`linux/rtnetlink.h`).
const RT_TABLE_LOCAL: u32 = 255;

/// Switches IPv6 off in the namespace of the writing thread, for links present and to come.
///
/// With one family, an agent that binds "localhost" is where its door looks for it, and
/// nothing can leave by a family that the egress door does not serve.
const IPV6_OFF: [&str; 2] = [
    "/proc/sys/net/ipv6/conf/all/disable_ipv6",
    "/proc/sys/net/ipv6/conf/default/disable_ipv6",
];

/// Why a network namespace could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The file to which the namespace is bound cannot be made, bound or removed.
    #[error(
        "cannot {verb} {path} for a network namespace; this needs root and the host's own mount namespace"
    )]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a namespace, or to enter it.
    #[error("cannot {verb} the network namespace {path}; this needs root (CAP_SYS_ADMIN)")]
    Namespace {
        /// What was tried.
        verb: &'static str,
        /// The file it is, or was to be, bound to.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A link, address or route inside could not be set.
    #[error("cannot set {what} in the network namespace {path}")]
    Setting {
        /// What was to be set.
        what: &'static str,
        /// The file to which the namespace is bound.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes the namespace at `path`, or completes the one that is there. Repeatable.
pub fn up(path: &Utf8Path) -> Result<(), NetnsError> {
    in_new_thread(path, || {
        if is_namespace(path) {
            enter(path)?;
        } else {
            create(path)?;
        }
        set_up(path)
    })
}

/// Removes the namespace at `path`; it lives on while a process is inside. Repeatable.
pub fn down(path: &Utf8Path) -> Result<(), NetnsError> {
    // An interrupted `up` may have bound twice; EINVAL says that nothing is bound any more.
    loop {
        match umount2(path.as_std_path(), MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(file("unbind", path, errno.into())),
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path, error)),
        _ => Ok(()),
    }
}

/// Whether a network namespace is bound to `path`.
pub fn is_namespace(path: &Utf8Path) -> bool {
    statfs(path.as_std_path()).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

/// Runs `work` inside the namespace at `path`, in a thread of its own.
pub fn inside<T: Send>(path: &Utf8Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    in_new_thread(path, || {
        enter(path)?;
        Ok(work())
    })
}

/// A thread that changed its namespace must not be used for anything else.
fn in_new_thread<T: Send>(
    path: &Utf8Path,
    work: impl FnOnce() -> Result<T, NetnsError> + Send,
) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| namespace("start a thread for", path, source))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(path: &Utf8Path) -> Result<(), NetnsError> {
    let ns = std::fs::File::open(path).map_err(|source| file("open", path, source))?;
    setns(ns, CloneFlags::CLONE_NEWNET).map_err(|errno| namespace("enter", path, errno.into()))
}

/// Moves this thread to a new namespace and binds it to `path`.
fn create(path: &Utf8Path) -> Result<(), NetnsError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| file("make", parent, source))?;
    }
    std::fs::File::create(path).map_err(|source| file("make", path, source))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| namespace("make", path, errno.into()))?;
    mount(
        Some("/proc/thread-self/ns/net"),
        path.as_std_path(),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|errno| file("bind", path, errno.into()))
}

fn set_up(path: &Utf8Path) -> Result<(), NetnsError> {
    for switch in IPV6_OFF {
        match std::fs::write(switch, "1") {
            // A kernel without IPv6 has nothing to switch off.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(setting("IPv6 off", path, error));
            }
            _ => {}
        }
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| setting("a netlink connection", path, error))?
        .block_on(set_links(path))
}

async fn set_links(path: &Utf8Path) -> Result<(), NetnsError> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|error| setting("a netlink connection", path, error))?;
    let connection = tokio::spawn(connection);
    let lo = loopback(&handle)
        .await
        .map_err(|error| setting("the loopback link", path, error))?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(lo).up().build())
        .execute()
        .await
        .map_err(|error| setting("the loopback link up", path, error))?;
    handle
        .address()
        .add(lo, ADDRESS.into(), 32)
        .replace()
        .execute()
        .await
        .map_err(|error| setting("the private address", path, error))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(NAMES.0, NAMES.1)
        .output_interface(lo)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .table_id(RT_TABLE_LOCAL)
        .build();
    handle
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(|error| setting("the local route for names", path, error))?;
    connection.abort();
    Ok(())
}

async fn loopback(handle: &Handle) -> Result<u32, rtnetlink::Error> {
    let mut links = handle.link().get().match_name("lo".to_owned()).execute();
    let link = links.try_next().await?;
    link.map(|link| link.header.index)
        .ok_or(rtnetlink::Error::RequestFailed)
}

fn file(verb: &'static str, path: &Utf8Path, source: io::Error) -> NetnsError {
    let path = path.to_owned();
    NetnsError::File { verb, path, source }
}

fn namespace(verb: &'static str, path: &Utf8Path, source: io::Error) -> NetnsError {
    let path = path.to_owned();
    NetnsError::Namespace { verb, path, source }
}

fn setting(
    what: &'static str,
    path: &Utf8Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> NetnsError {
    NetnsError::Setting {
        what,
        path: path.to_owned(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::Duration;

    use super::*;

    /// A place for a namespace, removed at the end.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> Utf8PathBuf {
            Utf8PathBuf::from_path_buf(self.0.path().join("netns/tenant-foo-bar")).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            down(&self.path()).unwrap();
        }
    }

    #[test]
    #[ignore = "needs root and network namespaces: runs in the test machine"]
    fn up_and_down_are_repeatable() {
        let place = Place::new();
        let path = place.path();
        up(&path).unwrap();
        let inode = |path: &Utf8Path| rustix::fs::stat(path.as_std_path()).unwrap().st_ino;
        let first = inode(&path);
        up(&path).unwrap();
        assert_eq!(inode(&path), first, "the namespace stays the same");
        down(&path).unwrap();
        assert!(!path.exists());
        down(&path).unwrap();
    }

    #[test]
    #[ignore = "needs root and network namespaces: runs in the test machine"]
    fn a_file_left_by_a_killed_up_is_no_obstacle() {
        let place = Place::new();
        let path = place.path();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(!is_namespace(&path));
        up(&path).unwrap();
        assert!(is_namespace(&path));
    }

    #[test]
    #[ignore = "needs root and network namespaces: runs in the test machine"]
    fn inside_reaches_itself_and_nothing_else() {
        let place = Place::new();
        up(&place.path()).unwrap();
        inside(&place.path(), || {
            for address in [Ipv4Addr::LOCALHOST, ADDRESS] {
                let listener = TcpListener::bind((address, 0)).unwrap();
                TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            }

            // Any address that stands for a name leads to a listener on the wildcard,
            // which sees what was dialled.
            let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let name = Ipv4Addr::new(198, 19, 255, 7);
            let _client = TcpStream::connect((name, port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert_eq!(server.local_addr().unwrap().ip(), name);

            for outside in ["10.0.0.1:80", "169.254.169.254:80", "192.0.2.1:80"] {
                let error =
                    TcpStream::connect_timeout(&outside.parse().unwrap(), Duration::from_secs(5))
                        .unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{outside}");
            }
            assert!(UdpSocket::bind("[::1]:0").is_err(), "IPv6 is off");
        })
        .unwrap();
    }

    #[test]
    fn a_refusal_names_the_file() {
        let error = inside(Utf8Path::new("/run/netns/absent"), || ()).unwrap_err();
        assert!(error.to_string().contains("/run/netns/absent"), "{error}");
    }
}
