# SPDX-License-Identifier: GPL-2.0-or-later
# The life of two releases by `livepatch`, on a real kernel, in busybox's shell.
fail() { echo "FAILED: $*"; sh /livepatch status; exit 1; }
lp() { sh /livepatch "$@"; }
lp status && fail "nothing is loaded"
lp install /files/livepatch-2.ko || fail install
grep release-2 /proc/version || fail "release 2"
lp install /files/livepatch-3.ko || fail upgrade
grep release-3 /proc/version || fail "release 3"
[ "$(ls /sys/kernel/livepatch)" = livepatch_3 ] || fail "one patch"
[ ! -e /sys/module/livepatch_2 ] || fail "the older module"
lp status || fail covered
lp status --json
lp status --json | grep '"taint_flags": "[A-Z]*OEK"' || fail "taint of the kernel"
lp load /files/livepatch-2.ko >/dev/null || fail "load of the older one"
lp rollback || fail rollback
grep release /proc/version && fail "as it was"
lp install /files/livepatch-3.ko || fail again
lp boot || fail boot
lp booted || fail booted
mkdir /tmp/kept
mv /var/lib/livepatch/* /tmp/kept
mount -t tmpfs -o size=8k full /var/lib/livepatch
lp install /files/livepatch-2.ko; [ $? = 3 ] || fail "a full disk"
[ -z "$(ls /var/lib/livepatch/*/)" ] || fail "half an installation"
umount /var/lib/livepatch
mv /tmp/kept/* /var/lib/livepatch
grep release-3 /proc/version || fail "after a full disk"
umount -l /sys
for words in status "load /files/livepatch-2.ko" unload rollback boot; do
    lp $words; [ $? = 3 ] || fail "$words without /sys"
done
mount -t sysfs sysfs /sys
lp status || fail "with /sys again"
mkfifo /tmp/pipe
cat /tmp/pipe >/dev/null &
exec 5>/tmp/pipe
sleep 1
lp load /files/livepatch-9.ko --allow-unpatch --timeout 4 2>&1
echo "stalled $?"
grep release-3 /proc/version || fail "taken back"
[ ! -e /sys/module/livepatch_9 ] || fail "the module that stalled"
into=/sys/kernel/livepatch/livepatch_9/transition
(sh -c "until [ -e $into ]; do sleep 0.1; done; sleep 0.5; kill -9 \$PPID" & exec sh /livepatch load /files/livepatch-9.ko --allow-unpatch)
lp status; [ $? = 4 ] || fail "in transition after a kill"
lp unload livepatch_9 --timeout 40 || fail "unload what a killed run left"
exec 5>&-
lp remove "$(uname -r)" || fail remove
grep release /proc/version && fail "still patched"
ls /sys/kernel/livepatch
[ -z "$(ls /sys/kernel/livepatch)" ]
