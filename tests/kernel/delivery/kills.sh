# SPDX-License-Identifier: GPL-2.0-or-later
# `livepatch load` killed at $1 random moments of its first three seconds: the next load has it in force, and nothing is
# left behind.
fail() { echo "FAILED: $*"; sh /livepatch status; ls /sys/kernel/livepatch /run/livepatch; exit 1; }
round=0
seen=
while [ $round -lt "$1" ]; do
    number=$((2 + round % 2))
    wait_for=$(($(od -An -N2 -tu2 /dev/urandom) % 3000))
    sh /livepatch -q load /files/livepatch-$number.ko 2>/dev/null &
    killed=$!
    usleep $((wait_for * 1000))
    kill -9 $killed 2>/dev/null
    wait $killed
    seen="$seen $wait_for:$?"
    next=$((2 + (round / 2) % 2))
    ended=4 # a transition that the killed run began is waited for
    until [ $ended != 4 ]; do
        sh /livepatch -q load /files/livepatch-$next.ko
        ended=$?
        [ $ended != 4 ] || sleep 0.3
    done
    [ $ended = 0 ] || fail "load after a kill at $wait_for ms: $ended"
    grep -q release-$next /proc/version || fail "not in force after a kill at $wait_for ms"
    [ "$(ls /sys/kernel/livepatch)" = livepatch_$next ] || fail "another patch after a kill at $wait_for ms"
    [ "$(ls -d /sys/module/livepatch_*)" = /sys/module/livepatch_$next ] || fail "a module after a kill at $wait_for ms"
    round=$((round + 1))
done
sh /livepatch -q unload || fail unload
[ -z "$(ls /run/livepatch)" ] || fail "files are left"
echo "kills $round:$seen"
