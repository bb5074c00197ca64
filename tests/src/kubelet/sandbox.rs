//! The command line of `bwrap` that isolates a process like a container.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The user of a container that must not run as root and names no user: "nonroot" of the distroless images.
const NON_ROOT: i64 = 65532;

/// The paths of this machine that a container of an image without a root sees. `/usr/local` belongs to the image.
const SYSTEM: [&str; 14] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/ssl",
    "/etc/hosts",
];

/// The paths that the sandbox provides, never the image.
const PROVIDED: [&str; 4] = ["/dev", "/proc", "/sys", "/tmp"];

/// A file or directory of this machine that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) host: PathBuf,
    pub(super) container: PathBuf,
    pub(super) read_only: bool,
}

/// A container: its user, its file system, and its command.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) user: i64,
    pub(super) group: i64,
    pub(super) hostname: String,
    /// The root of the image, if it has one.
    pub(super) root: Option<PathBuf>,
    pub(super) read_only_root: bool,
    pub(super) working_dir: PathBuf,
    pub(super) binds: Vec<Bind>,
    pub(super) command: Vec<String>,
}

impl Sandbox {
    /// The arguments of `bwrap`.
    ///
    /// The process has the id 1 in its own process namespace, as in a container: a SIGTERM without a handler is
    /// ignored.
    ///
    /// # Errors
    /// The root of the image cannot be read.
    pub(super) fn arguments(&self) -> io::Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> = [
            "--die-with-parent",
            "--as-pid-1",
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--cap-drop",
            "ALL",
        ]
        .map(OsString::from)
        .to_vec();
        let mut push = |items: &[&dyn AsRef<std::ffi::OsStr>]| {
            arguments.extend(items.iter().map(|item| item.as_ref().to_owned()));
        };
        push(&[&"--uid", &self.user.to_string()]);
        push(&[&"--gid", &self.group.to_string()]);
        push(&[&"--hostname", &self.hostname]);
        if let Some(root) = &self.root {
            for entry in self.entries(root, Path::new("/"))? {
                match entry {
                    Entry::Directory(at) => push(&[&"--dir", &at]),
                    Entry::Link(target, at) => push(&[&"--symlink", &target, &at]),
                    Entry::Bind(host, at) => push(&[&"--ro-bind", &host, &at]),
                }
            }
        } else {
            for path in SYSTEM {
                match fs::read_link(path) {
                    Ok(target) => push(&[&"--symlink", &target, &path]),
                    Err(_) => push(&[&"--ro-bind-try", &path, &path]),
                }
            }
            push(&[&"--tmpfs", &"/usr/local"]);
        }
        push(&[&"--proc", &"/proc", &"--dev", &"/dev"]);
        push(&[&"--perms", &"1777", &"--dir", &"/tmp"]);
        // A mount inside of another follows it.
        let mut binds: Vec<&Bind> = self.binds.iter().collect();
        binds.sort_by_key(|bind| bind.container.components().count());
        for bind in binds {
            let option = if bind.read_only { "--ro-bind" } else { "--bind" };
            push(&[&option, &bind.host, &bind.container]);
        }
        if self.working_dir == Path::new("/") {
            push(&[&"--chdir", &"/"]);
        } else {
            push(&[&"--dir", &self.working_dir, &"--chdir", &self.working_dir]);
        }
        if self.read_only_root {
            if self.root.is_none() {
                push(&[&"--remount-ro", &"/usr/local"]);
            }
            push(&[&"--remount-ro", &"/"]);
        }
        push(&[&"--"]);
        for word in &self.command {
            push(&[word]);
        }
        Ok(arguments)
    }

    /// The entries of a folder of the image's root, by name. A mount point may not exist, and cannot be created below a
    /// read-only mount: the folders above it are created in the sandbox.
    fn entries(&self, folder: &Path, at: &Path) -> io::Result<Vec<Entry>> {
        let mut names: Vec<OsString> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        let mut entries = Vec::new();
        for name in names {
            let (host, at) = (folder.join(&name), at.join(&name));
            let is_above_mount = |bind: &Bind| bind.container != at && bind.container.starts_with(&at);
            let kind = host.symlink_metadata()?.file_type();
            if PROVIDED.iter().any(|provided| at == Path::new(provided)) {
                continue;
            }
            if kind.is_symlink() {
                entries.push(Entry::Link(fs::read_link(&host)?, at));
            } else if kind.is_dir() && self.binds.iter().any(is_above_mount) {
                entries.push(Entry::Directory(at.clone()));
                entries.extend(self.entries(&host, &at)?);
            } else {
                entries.push(Entry::Bind(host, at));
            }
        }
        Ok(entries)
    }
}

/// An entry of the root of a container: a new directory, a symbolic link, or a bind mount.
enum Entry {
    Directory(PathBuf),
    Link(PathBuf, PathBuf),
    Bind(PathBuf, PathBuf),
}

/// The user and group of a container: its own, else the pod's, else root or, if root is not allowed, 65532.
pub(super) fn identity(spec: &PodSpec, container: &Container) -> (i64, i64) {
    let of_container = container.security_context.as_ref();
    let of_pod = spec.security_context.as_ref();
    let non_root = of_container
        .and_then(|context| context.run_as_non_root)
        .or_else(|| of_pod.and_then(|context| context.run_as_non_root))
        .unwrap_or(false);
    let user = of_container
        .and_then(|context| context.run_as_user)
        .or_else(|| of_pod.and_then(|context| context.run_as_user))
        .unwrap_or(if non_root { NON_ROOT } else { 0 });
    let group = of_container
        .and_then(|context| context.run_as_group)
        .or_else(|| of_pod.and_then(|context| context.run_as_group))
        .unwrap_or(user);
    (user, group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bind(container: &str, read_only: bool) -> Bind {
        Bind { host: "/host".into(), container: container.into(), read_only }
    }

    fn sandbox(root: Option<PathBuf>, binds: Vec<Bind>) -> Sandbox {
        Sandbox {
            user: 1,
            group: 2,
            hostname: "pod".into(),
            root,
            read_only_root: true,
            working_dir: "/".into(),
            binds,
            command: vec!["/app".into(), "--flag".into()],
        }
    }

    fn line(sandbox: &Sandbox) -> String {
        let arguments = sandbox.arguments().unwrap();
        arguments.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_inner_mount_follows_the_outer_one_and_the_root_becomes_read_only_last() {
        let line = line(&sandbox(None, vec![bind("/data/cache", false), bind("/data", true)]));
        let end = "--ro-bind /host /data --bind /host /data/cache --chdir / \
                   --remount-ro /usr/local --remount-ro / -- /app --flag";
        assert!(line.ends_with(end), "{line}");
        assert!(line.contains("--uid 1 --gid 2 --hostname pod"), "{line}");
    }

    #[test]
    fn a_root_is_bound_except_for_the_folders_above_a_mount() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["etc/ssl", "tmp/left", "usr/bin", "var/log", "var/run"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        let line = line(&sandbox(Some(root.into()), vec![bind("/var/run/secrets", true), bind("/etc", true)]));
        let root = root.display();
        let expected = format!(
            "--symlink usr/bin /bin --ro-bind {root}/etc /etc --ro-bind {root}/usr /usr --dir /var \
             --ro-bind {root}/var/log /var/log --dir /var/run --proc /proc --dev /dev --perms 1777 --dir /tmp \
             --ro-bind /host /etc --ro-bind /host /var/run/secrets --chdir / --remount-ro / -- /app --flag"
        );
        assert!(line.ends_with(&expected), "{line}");
    }

    #[test]
    fn a_container_runs_as_its_own_user_before_that_of_the_pod() {
        for (pod, container, expected) in [
            (json!({}), json!({}), (0, 0)),
            (json!({"runAsNonRoot": true}), json!({}), (65532, 65532)),
            (json!({"runAsUser": 7, "runAsGroup": 8}), json!({}), (7, 8)),
            (json!({"runAsUser": 7, "runAsGroup": 8}), json!({"runAsUser": 9}), (9, 8)),
        ] {
            let container: Container =
                serde_json::from_value(json!({"name": "c", "securityContext": container})).unwrap();
            let spec: PodSpec = serde_json::from_value(json!({"containers": [], "securityContext": pod})).unwrap();
            assert_eq!(identity(&spec, &container), expected);
        }
    }
}
