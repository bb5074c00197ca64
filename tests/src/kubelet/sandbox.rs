//! The command line of `bwrap` that gives a process the view of a container.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The user of a container that must not run as root and names no user: "nonroot" of the distroless images.
const NON_ROOT: i64 = 65532;

/// What a container sees of this machine beside its own files. `/usr/local` is left to the image.
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

/// A file or directory of this machine in the view of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) host: PathBuf,
    pub(super) container: PathBuf,
    pub(super) read_only: bool,
}

/// A container's view of the machine and what runs in it.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) user: i64,
    pub(super) group: i64,
    pub(super) hostname: String,
    pub(super) read_only_root: bool,
    pub(super) working_dir: PathBuf,
    pub(super) binds: Vec<Bind>,
    pub(super) command: Vec<String>,
}

impl Sandbox {
    /// The arguments of `bwrap`.
    ///
    /// The process is number 1 of its own process namespace, as in a container: a SIGTERM that it has no
    /// handler for does nothing.
    pub(super) fn arguments(&self) -> Vec<OsString> {
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
        for path in SYSTEM {
            match fs::read_link(path) {
                Ok(target) => push(&[&"--symlink", &target, &path]),
                Err(_) => push(&[&"--ro-bind-try", &path, &path]),
            }
        }
        push(&[&"--proc", &"/proc", &"--dev", &"/dev"]);
        push(&[&"--tmpfs", &"/usr/local"]);
        push(&[&"--perms", &"1777", &"--dir", &"/tmp"]);
        // A mount inside of another one comes after it.
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
            push(&[&"--remount-ro", &"/usr/local", &"--remount-ro", &"/"]);
        }
        push(&[&"--"]);
        for word in &self.command {
            push(&[word]);
        }
        arguments
    }
}

/// The user and group of a container: its own, else the pod's, else root unless that is ruled out.
pub(super) fn identity(spec: &PodSpec, container: &Container) -> (i64, i64) {
    let own = container.security_context.as_ref();
    let pod = spec.security_context.as_ref();
    let non_root = own
        .and_then(|context| context.run_as_non_root)
        .or_else(|| pod.and_then(|context| context.run_as_non_root))
        .unwrap_or(false);
    let user = own
        .and_then(|context| context.run_as_user)
        .or_else(|| pod.and_then(|context| context.run_as_user))
        .unwrap_or(if non_root { NON_ROOT } else { 0 });
    let group = own
        .and_then(|context| context.run_as_group)
        .or_else(|| pod.and_then(|context| context.run_as_group))
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

    #[test]
    fn an_inner_mount_follows_the_outer_one_and_the_root_is_sealed_last() {
        let sandbox = Sandbox {
            user: 1,
            group: 2,
            hostname: "pod".into(),
            read_only_root: true,
            working_dir: "/".into(),
            binds: vec![bind("/data/cache", false), bind("/data", true)],
            command: vec!["/app".into(), "--flag".into()],
        };
        let line = sandbox
            .arguments()
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" ");
        let end = "--ro-bind /host /data --bind /host /data/cache --chdir / \
                   --remount-ro /usr/local --remount-ro / -- /app --flag";
        assert!(line.ends_with(end), "{line}");
        assert!(line.contains("--uid 1 --gid 2 --hostname pod"), "{line}");
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
