# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with a real user space: Debian's own packages, unpacked into a file system image, with systemd or SysV init.

The packages come from this machine's apt sources and are unpacked without running any script; dpkg in the guest knows
them as installed. The image is booted again and again: what happens in a boot is seen by the next one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kgbuild.arch import arch_of
from kgbuild.host.vm.initramfs import collect_modules, directory, find_busybox, regular, symlink, write_cpio
from kgbuild.model import Kernel

ARCH = arch_of(62)
WANTED = (
    *(
        "base-files",
        "base-passwd",
        "bash",
        "coreutils",
        "dash",
        "debianutils",
        "diffutils",
        "dpkg",
        "findutils",
        "grep",
    ),
    *("gzip", "hostname", "init-system-helpers", "libc-bin", "login", "mount", "ncurses-base", "perl-base", "sed"),
    *("sysvinit-utils", "tar", "util-linux", "systemd", "systemd-sysv", "udev", "kmod", "mawk", "procps"),
    "keyutils",
)
SYSV = ("sysvinit-core", "sysv-rc", "initscripts", "insserv", "startpar")
# what initscripts enables where it is installed, in order: all that mounts needs, and a script of the network
SYSV_ENABLED = (
    *("mountkernfs.sh", "mountdevsubfs.sh", "hostname.sh", "checkroot.sh", "checkfs.sh", "checkroot-bootclean.sh"),
    *("mountall.sh", "mountall-bootclean.sh", "networking"),
)
SYSTEMD_INIT, SYSV_INIT = "/lib/systemd/systemd", "/sbin/init"
_INIT = """\
#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sysfs /sys
for module in /modules/*; do insmod "$module"; done
n=0; until [ -b /dev/vda ] || [ $n = 100 ]; do n=$((n + 1)); sleep 0.1; done
mount -t ext4 /dev/vda /sysroot
umount /proc /sys
mount --move /dev /sysroot/dev
exec switch_root /sysroot INIT
"""
_TEST = """\
#!/bin/sh
cat /dev/vdb >/run/test; sh /run/test >/dev/ttyS1 2>&1
echo kgbuild-ended >/dev/ttyS1; sync; POWEROFF
"""
# what a machine with SysV init has by its installation: runlevel S, then 2
_INITTAB = """\
id:2:initdefault:
si::sysinit:/etc/init.d/rcS
l2:2:wait:/etc/init.d/rc 2
t2:2:wait:/bin/sh /etc/kgbuild-test
"""
_SCRIPT = """\
#!/bin/sh
### BEGIN INIT INFO
# Provides: NAME
# Required-Start: $local_fs
# Required-Stop:
# Default-Start: S
# Default-Stop:
### END INIT INFO
COMMANDS
"""
_UNIT = """\
[Unit]
After=multi-user.target livepatch-booted.service
[Service]
Type=oneshot
ExecStart=-/bin/sh /etc/kgbuild-test
[Install]
WantedBy=multi-user.target
"""


def fetch_packages(folder: Path, wanted: Sequence[str] = WANTED) -> list[Path]:
    """The packages that the guest is made of with all that they need, downloaded into a folder once."""
    archives, complete = folder / "cache/archives", folder / "complete"
    names = " ".join(wanted)
    if not complete.exists() or complete.read_text() != names:
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        settings = {
            "Dir::State::status": str(folder / "status"),
            "Dir::Cache": str(folder / "cache"),
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        words = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        subprocess.run(["apt-get", *words, "-y", "-qq", "-d", "install", *wanted], check=True, capture_output=True)
        complete.write_text(names)
    return sorted(archives.glob("*.deb"))


def unpack_root(debs: Sequence[Path], root: Path, also_installed: str) -> None:
    """A root file system of these packages. `also_installed`: paragraphs of packages that dpkg takes for installed."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    for name in ("updates", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir()
    (root / "var/lib/dpkg/available").touch()
    rows = [also_installed]
    for deb in debs:
        _unpack(deb, root)
        control = subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True).stdout
        fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and line[0] != " ")
        same = f":{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else ""
        (info / f"{fields['Package']}{same}.list").write_text("/.\n")
        lines = control.rstrip().split("\n")
        rows.append("\n".join([lines[0], "Status: install ok installed", *lines[1:]]) + "\n")
    (root / "var/lib/dpkg/status").write_text("\n".join(rows))
    base = root / "usr/share/base-passwd"
    (root / "etc/passwd").write_text((base / "passwd.master").read_text().replace("root:*:", "root::"))
    (root / "etc/group").write_text((base / "group.master").read_text())
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 0\n")
    (root / "etc/kgbuild-test").write_text(_TEST.replace("POWEROFF", "systemctl poweroff -ff"))
    units = root / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "kgbuild-test.service").write_text(_UNIT)
    (units / "multi-user.target.wants/kgbuild-test.service").symlink_to("/etc/systemd/system/kgbuild-test.service")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for name in (
        "systemd-udev-settle",
        "systemd-timesyncd",
        "e2scrub_reap",
        "getty@tty1",
        "systemd-networkd-wait-online",
    ):
        (units / f"{name}.service").symlink_to("/dev/null")
    (units / "getty.target").symlink_to("/dev/null")


def _unpack(deb: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
        subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink"], stdin=tar.stdout, check=True)


def init_script(name: str, commands: str) -> str:
    """An init script for runlevel S."""
    return _SCRIPT.replace("NAME", name).replace("COMMANDS", commands)


def add_sysv_init(debs: Sequence[Path], root: Path) -> None:
    """Put SysV init in place of systemd, with the scripts of runlevel S that mount file systems."""
    for name in ("init", "halt", "poweroff", "reboot", "shutdown", "telinit", "runlevel"):
        (root / "usr/sbin" / name).unlink(missing_ok=True)  # systemd's are links
    for deb in debs:
        if deb.name.split("_")[0] in SYSV:
            _unpack(deb, root)
    (root / "etc/inittab").write_text(_INITTAB)
    (root / "etc/kgbuild-test").write_text(_TEST.replace("POWEROFF", "poweroff -f"))
    networking = root / "etc/init.d/networking"
    networking.write_text(init_script("networking", "cat /proc/version >/run/networking-saw"))
    networking.chmod(0o755)
    for number, name in enumerate(SYSV_ENABLED, 1):
        link = root / f"etc/rcS.d/S{number:02d}{name}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"../init.d/{name}")


def make_image(root: Path, image: Path) -> None:
    """An ext4 image of a folder."""
    with image.open("wb") as stream:
        stream.truncate(600 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, image], check=True, capture_output=True)


def boot(
    kernel: Kernel,
    image: Path,
    run: str,
    *,
    append: str = "",
    seconds: float = 600,
    smp: int = 1,
    init: str = SYSTEMD_INIT,
) -> str:
    """Boot the image, run a script in it when the system is up, and return what that printed. A guest that crashes
    boots again, as a real machine does."""
    script = image.with_suffix(".run")
    script.write_bytes(run.encode().ljust(-(-len(run.encode()) // 512) * 512, b"\n"))
    busybox, _ = find_busybox(ARCH)
    loads = collect_modules(kernel.modules, ["virtio_pci", "virtio_blk"])
    applets = ("sh", "mount", "umount", "insmod", "sleep", "switch_root")
    initrd = image.with_suffix(".cpio")
    initrd.write_bytes(
        write_cpio(
            [
                *(directory(name) for name in ("dev", "proc", "sys", "sysroot", "bin", "modules")),
                regular("bin/busybox", busybox, 0o755),
                *(symlink(f"bin/{name}", "busybox") for name in applets),
                *(regular(f"modules/{n:02d}-{name}.ko", data) for n, (name, data) in enumerate(loads)),
                regular("init", _INIT.replace("#!/bin/sh", "#!/bin/busybox sh").replace("INIT", init).encode(), 0o755),
            ]
        )
    )
    said, console = image.with_suffix(".said"), image.with_suffix(".console")
    said.unlink(missing_ok=True)
    words = f"console=ttyS0 panic=-1 quiet systemd.show_status=0 {append}"
    argv = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", str(smp), "-m", "512"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-kernel", str(kernel.image), "-initrd", str(initrd)),
        *("-append", words, "-drive", f"file={image},format=raw,if=virtio,cache=unsafe"),
        *("-drive", f"file={script},format=raw,if=virtio,readonly=on"),
        *("-serial", f"file:{console}", "-serial", f"file:{said}"),
    ]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(argv, check=True, timeout=seconds, capture_output=True)
    text = said.read_text(errors="replace") if said.exists() else ""
    assert "kgbuild-ended" in text, text + console.read_text(errors="replace")[-4000:]
    return text.replace("\r\n", "\n").replace("kgbuild-ended\n", "")
