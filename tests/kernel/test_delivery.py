# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages, boots and roll-backs in a guest with Debian's user space and systemd, and 200 cycles under load.

A boot with systemd takes a minute under emulation: all of it runs where KGBUILD_TEST_SUITES is set (make test-all), in
CI the first boot alone.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from kgbuild.delivery.kernel_keys import read_kernel_keys
from kgbuild.host.delivery.kernel_keys import certificate_names
from kgbuild.host.delivery.signing import open_key, sign_module
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.system.output_files import write_directory
from kgbuild.host.vm.run import PatchRun, run_vm
from kgbuild.model import Kernel
from kgbuild.pipeline.delivery.package import pack, read_module_to_pack
from kgbuild.progress import SilentProgress
from tests.support.booting.cases import kgbuild
from tests.support.keys import make_keys
from tests.support.real_root import (
    SYSTEMD_INIT,
    SYSV,
    SYSV_INIT,
    add_sysv_init,
    boot,
    fetch_packages,
    init_script,
    make_image,
    unpack_root,
)

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".pytest_cache"
PIPE = Path(__file__).parent / "delivery" / "pipe.patch"  # a sleeping reader holds it up
LONG = bool(os.environ.get("KGBUILD_TEST_SUITES"))
HEAD = 'fail() { echo "FAILED: $*"; livepatch status; }\n'


@dataclass
class Guest:
    kernel: Kernel
    newer: Kernel
    image: Path
    init: str = SYSTEMD_INIT

    def boots(self, script: str, *, newer: bool = False, append: str = "", smp: int = 1, seconds: float = 900) -> str:
        kernel = self.newer if newer else self.kernel
        said = boot(kernel, self.image, HEAD + script, append=append, smp=smp, seconds=seconds, init=self.init)
        assert "FAILED" not in said, said
        return said


def build_modules(place: Path) -> dict[int, Path]:
    """Releases 2 and 3, and a patch (9) that a sleeping reader of a pipe holds up."""
    fix = (ROOT / "examples/proc-version/fix.patch").read_text()
    texts = {n: fix.replace("kgbuild\\n", f"release-{n}\\n") for n in (2, 3)} | {9: PIPE.read_text()}
    made = {}
    for number, text in texts.items():
        patch, made[number] = place / f"{number}.patch", place / f"livepatch-{number}.ko"
        patch.write_text(text)
        ran = kgbuild("build", patch, "--kernel", os.environ["KGBUILD_TEST_KERNEL"], "-o", made[number])
        assert ran.status == 0, ran.stderr
    return made


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return build_modules(tmp_path_factory.mktemp("modules"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, modules: dict[int, Path]) -> Path:
    """A user space with both releases as packages and a patch that a sleeping reader holds up, not installed."""
    name = os.environ["KGBUILD_TEST_KERNEL"]
    kernel = ensure_kernel(name, progress=SilentProgress(), offline=True)
    root = tmp_path_factory.mktemp("root") / "root"
    image_row = (
        f"Package: linux-image-{kernel.id.release}\nStatus: install ok installed\nMaintainer: x <x@y>\n"
        f"Architecture: amd64\nVersion: {kernel.id.version}\nDescription: x\n"
    )
    unpack_root(fetch_packages(CACHE / "real-root"), root, image_row)
    test = root / "opt/test"
    test.mkdir(parents=True)
    for number, module in modules.items():
        (test / module.name).write_bytes(module.read_bytes())
        if number != 9:
            made = pack([read_module_to_pack(module, None, ["CVE-2026-12345"])], deb=True, rpm=False)
            write_directory(test, {one.name: one.data for one in made})
    return root


@pytest.fixture(scope="module")
def guest(root: Path) -> Guest:
    return make_guest(root, "disk.img", SYSTEMD_INIT)


def make_guest(root: Path, image: str, init: str) -> Guest:
    names = os.environ["KGBUILD_TEST_KERNEL"], os.environ["KGBUILD_TEST_NEWER_KERNEL"]
    kernel, newer = (ensure_kernel(name, progress=SilentProgress(), offline=True) for name in names)
    make_image(root, root.parent / image)
    return Guest(kernel, newer, root.parent / image, init)


STEPS: list[tuple[str, dict[str, object], str]] = [
    (
        "install",
        {},
        """
cd /opt/test
dpkg -i kgbuild-livepatch_*.deb livepatch-6*_2_*.deb || fail dpkg
grep release-2 /proc/version || fail not in force
livepatch status || fail status
systemctl is-enabled livepatch.service livepatch-booted.service || fail units
for ring in .builtin_trusted_keys .secondary_trusted_keys .platform; do keyctl show "%:$ring"; done
""",
    ),
    (
        "reboot, upgrade, rollback, stalled",
        {},
        """
cd /opt/test
grep release-2 /proc/version || fail not in force after the boot
[ ! -e /var/lib/livepatch/attempt ] || fail the marker is there
dpkg -i livepatch-6*_3_*.deb || fail dpkg
grep release-3 /proc/version || fail upgrade
[ "$(ls /sys/kernel/livepatch)" = livepatch_3 ] || fail two patches
[ ! -e /sys/module/livepatch_2 ] || fail the module is there
livepatch rollback || fail rollback
grep release-2 /proc/version || fail rolled back
mkfifo /tmp/pipe
cat /tmp/pipe >/dev/null &
exec 5>/tmp/pipe
sleep 1
livepatch load livepatch-9.ko --allow-unpatch --timeout 4; echo "stalled $?"
grep release-2 /proc/version || fail not as it was
[ ! -e /sys/kernel/livepatch/livepatch_9 ] || fail not taken back
livepatch load livepatch-9.ko --allow-unpatch --timeout 60; echo "signalled $?"
livepatch unload || fail unload
dpkg -i livepatch-6*_3_*.deb || fail again
""",
    ),
    (
        "livepatch=0",
        {"append": "livepatch=0"},
        """
grep release /proc/version && fail loaded
livepatch status; [ $? = 1 ] || fail status
""",
    ),
    (
        "another kernel",
        {"newer": True},
        """
systemctl status livepatch.service --no-pager
livepatch boot
livepatch status; [ $? = 1 ] || fail status
""",
    ),
    (
        "prepare a crash",
        {},
        """
grep release-3 /proc/version || fail not loaded
cat >/etc/systemd/system/crash.service <<'END'
[Unit]
DefaultDependencies=no
After=livepatch.service
Before=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'grep release /proc/version && { sync; echo c >/proc/sysrq-trigger; }; true'
END
mkdir -p /etc/systemd/system/sysinit.target.wants
ln -s ../crash.service /etc/systemd/system/sysinit.target.wants/crash.service
sync
""",
    ),
    (
        "crash loop",
        {},
        """
grep release /proc/version && fail loaded again
livepatch status
livepatch status | grep 'did not come up' || fail not said
rm /etc/systemd/system/sysinit.target.wants/crash.service
livepatch enable-at-boot
livepatch boot
grep release-3 /proc/version || fail not loaded
livepatch booted
dpkg -r "livepatch-$(uname -r)" || fail remove
grep release /proc/version && fail still in force
[ ! -e /sys/module/livepatch_3 ] || fail the module is there
ls -A /var/lib/livepatch
""",
    ),
]


CRASH = init_script("crash", "grep release /proc/version && { sync; echo c >/proc/sysrq-trigger; }; true")
SYSV_STEPS: list[tuple[str, dict[str, object], str]] = [
    (
        "install",
        {},
        """
cd /opt/test
dpkg -i kgbuild-livepatch_*.deb livepatch-6*_2_*.deb || fail dpkg
grep release-2 /proc/version || fail not in force
""",
    ),
    (
        "reboot",
        {},
        f"""
grep release-2 /run/networking-saw || fail not in force before the network
grep release-2 /proc/version || fail not in force
[ ! -e /var/lib/livepatch/attempt ] || fail the marker is there
cd /opt/test
mount -t tmpfs -o size=8k full /var/lib/livepatch
dpkg -i livepatch-6*_3_*.deb && fail a full disk
umount /var/lib/livepatch
grep release-2 /proc/version || fail after a full disk
dpkg --configure -a || fail configure
grep release-3 /proc/version || fail upgrade
dpkg -i livepatch-6*_2_*.deb || fail downgrade
grep release-2 /proc/version || fail after the downgrade
livepatch status | grep 'boot *loads livepatch_2' || fail the boot after the downgrade
cat >/etc/init.d/crash <<'END'
{CRASH}
END
sed -i 's/^# Required-Start:.*/# Required-Start: livepatch/' /etc/init.d/crash
chmod 755 /etc/init.d/crash
update-rc.d crash defaults
sync
""",
    ),
    ("livepatch=0", {"append": "livepatch=0"}, "grep release /proc/version && fail loaded"),
    (
        "crash loop",
        {},
        """
grep release /proc/version && fail loaded again
livepatch status | grep 'did not come up' || fail not said
/etc/init.d/livepatch status
dpkg -r "livepatch-$(uname -r)" || fail remove
ls -A /var/lib/livepatch
""",
    ),
]


def test_a_patch_under_sysv_init(root: Path) -> None:
    """The init scripts alone: in force before the network, not with livepatch=0, and a crash loop ends by itself."""
    if not LONG:
        return
    place = root.parent / "sysv"
    subprocess.run(["cp", "-a", root, place], check=True)
    add_sysv_init(fetch_packages(CACHE / "sysv-root", SYSV), place)
    guest = make_guest(place, "sysv.img", SYSV_INIT)
    for _, options, script in SYSV_STEPS:
        guest.boots(script, **options)  # type: ignore[arg-type]


def test_a_key_that_the_guest_trusts(modules: dict[int, Path], tmp_path: Path) -> None:
    """With module.sig_enforce and lockdown: a kernel that finds a certificate in UEFI's db takes the module that is
    signed by its key, and refuses one that is not."""
    make_keys(tmp_path, "trusted", "other")
    signed = {}
    for number, name in ((2, "trusted"), (3, "other")):
        key = open_key(str(tmp_path / f"{name}.pem"), tmp_path / f"{name}.crt")
        signed[number] = tmp_path / f"livepatch-{number}.ko"
        signed[number].write_bytes(sign_module(modules[number].read_bytes(), key))
    kernel = ensure_kernel(os.environ["KGBUILD_TEST_KERNEL"], progress=SilentProgress(), offline=True)
    ran = run_vm(
        kernel,
        [
            PatchRun(signed[2], checks=["grep -q release-2 /proc/version"], before=["grep X509 /proc/keys"]),
            PatchRun(signed[3]),
        ],
        progress=SilentProgress(),
        append="module.sig_enforce=1 lockdown=integrity",
        trusted=[tmp_path / "trusted.crt"],
        timeout=240,
    )
    (finding,) = ran.findings
    assert finding.code == "G2-load" and finding.place == "livepatch_3" and "--trust-cert" in finding.remedy
    (listed, _) = ran.of("livepatch_2")["before"].commands
    names = certificate_names(tmp_path / "trusted.crt")
    assert f"trusted: {names.identifier}" in listed.output


def test_the_script_on_a_real_kernel(modules: dict[int, Path]) -> None:
    """In busybox's shell: two releases, a stalled task, a run that is killed; then load and unload under load, 200
    times where there is time."""
    kernel = ensure_kernel(os.environ["KGBUILD_TEST_KERNEL"], progress=SilentProgress(), offline=True)
    script = resources.files("kgbuild").joinpath("data/delivery/livepatch").read_bytes()
    files: dict[str, bytes | Path] = {"livepatch": script}
    for number, path in modules.items():
        files[f"files/livepatch-{number}.ko"] = path
        files[f"files/livepatch-{number}.info"] = f"release={number}\ncves=CVE-2026-{number}0000\n".encode()
    here = PIPE.parent
    cycles, kills = (200, 60) if LONG else (3, 3)
    scripts = {name: (here / f"{name}.sh").read_text() for name in ("guest", "kills", "cycles")}
    commands = [scripts["guest"], f"set -- {kills}\n{scripts['kills']}", f"set -- {cycles}\n{scripts['cycles']}"]
    seconds = 7200.0 if LONG else 300.0  # a cycle took 28 s where the host had a load of 17
    run = PatchRun(modules[2], before=commands)
    ran = run_vm(
        kernel, [run], progress=SilentProgress(), smp=2, files=files, command_timeout=seconds, timeout=2 * seconds
    )
    life, killed, load = ran.of("livepatch_2")["before"].commands
    assert life.status == 0, life.output
    assert "stalled 1" in life.output and "pipe_read" in life.output
    assert killed.status == 0 and f"kills {kills}:" in killed.output, killed.output
    assert load.status == 0, load.output
    assert f"cycles {cycles} " in load.output and "transfers 0" not in load.output
    assert ran.verdict, ran.findings


def test_the_life_of_a_patch(guest: Guest) -> None:
    """In CI the first boot alone: dpkg installs, and the patch is in force."""
    steps = STEPS if LONG else STEPS[:1]
    said = {name: guest.boots(script, **options) for name, options, script in steps}  # type: ignore[arg-type]
    assert "covered" in said["install"] or "in force" in said["install"]
    assert any(key.keyring == ".builtin_trusted_keys" for key in read_kernel_keys(said["install"])), said["install"]
    if not LONG:
        return
    second = said["reboot, upgrade, rollback, stalled"]
    assert "stalled 1" in second and "pipe_read" in second and "signalled 0" in second
    assert "for other kernels" in said["another kernel"]
