# SPDX-License-Identifier: GPL-2.0-or-later
"""Shell commands for the guest: the life of a patch that is loaded before the one under test."""

from __future__ import annotations

# The life of a patch that is loaded before the one under test, as commands of the guest's shell.
_LOAD = """\
insmod {file} && cd /sys/kernel/livepatch/{name} || exit 1
until [ "$(cat transition)" = 0 ]; do sleep 0.1; done
[ "$(cat enabled)" = 1 ]
"""
# A patch that was replaced is gone from sysfs; its module is not.
_UNLOAD = """\
cd /sys/kernel/livepatch
[ ! -e {name}/enabled ] || echo 0 >{name}/enabled
while [ -e {name} ]; do sleep 0.1; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    [ -e /sys/module/{name} ] || exit 0
    rmmod {name} 2>/dev/null || sleep 0.1
done
[ ! -e /sys/module/{name} ]
"""


def guest_file(number: int, name: str) -> str:
    """Where the guest finds a module that is loaded before patch `number`."""
    return f"kgbuild/older/{number:03d}/{name}.ko"


def load_command(number: int, name: str) -> str:
    """A command that loads it, and succeeds where it is enabled then."""
    return _LOAD.format(file=f"/{guest_file(number, name)}", name=name)


def unload_command(name: str) -> str:
    """A command that disables and removes it, if it is there, and succeeds where it is gone then."""
    return _UNLOAD.format(name=name)
