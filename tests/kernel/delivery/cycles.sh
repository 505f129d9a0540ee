# SPDX-License-Identifier: GPL-2.0-or-later
# Load and unload a patch $1 times while files are copied and data goes over the network. Not a byte may be lost.
dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null
sum=$(sha256sum </tmp/data)
(
    while [ ! -e /tmp/stop ]; do
        cat /tmp/data >/tmp/copy
        [ "$(sha256sum </tmp/copy)" = "$sum" ] || echo file >>/tmp/lost
        echo >>/tmp/files
        sleep 0.2 # what is loaded needs some of the emulated CPUs too
    done
) &
# busybox's nc ends at the end of either side: the one that receives has an input that never ends
mkfifo /tmp/hold
exec 9<>/tmp/hold
(
    while [ ! -e /tmp/stop ]; do
        nc -l -p 7777 </tmp/data >/dev/null &
        server=$!
        sleep 0.3
        if nc 127.0.0.1 7777 <&9 >/tmp/got; then
            wait $server
            [ "$(sha256sum </tmp/got)" = "$sum" ] || echo network >>/tmp/lost
            echo >>/tmp/transfers
        else
            kill $server 2>/dev/null
        fi
    done
) &
cycle=0
while [ $cycle -lt "$1" ]; do
    sh /livepatch -q load /files/livepatch-2.ko || { echo "load $cycle"; exit 1; }
    grep -q release-2 /proc/version || { echo "not in force $cycle"; exit 1; }
    sh /livepatch -q unload || { echo "unload $cycle"; exit 1; }
    cycle=$((cycle + 1))
done
: >/tmp/stop
wait
echo "cycles $cycle files $(wc -l </tmp/files) transfers $(wc -l </tmp/transfers)"
[ ! -e /tmp/lost ] || { cat /tmp/lost; exit 1; }
[ ! -e /sys/module/livepatch_2 ]
