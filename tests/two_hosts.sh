#!/usr/bin/env bash
# Ranks on two hosts, as far as they and MPI can tell: two network namespaces of this machine, joined by a pair of
# virtual Ethernet devices and by nothing else. All operations of the communicator and ring attention over
# MPI, then a host whose cable is cut. Needs root, iproute2 and MPICH.
#
#     cargo build -p longnet-tests --features mpi --bin mpi_rank
#     sudo tests/two_hosts.sh target/debug/mpi_rank
set -euo pipefail
program=$(realpath "${1:?usage: two_hosts.sh MPI_RANK_PROGRAM}")

work=$(mktemp -d)
a=longnet-a-$$ b=longnet-b-$$
clean_up() {
    # What a host without its cable leaves behind.
    for host in "$a" "$b"; do
        ip netns pids "$host" 2>/dev/null | xargs -r kill -9 || true
        ip netns del "$host" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean_up EXIT

ip netns add "$a"
ip netns add "$b"
ip link add eth0 netns "$a" type veth peer name eth0 netns "$b"
ip -n "$a" address add 10.83.0.1/24 dev eth0
ip -n "$b" address add 10.83.0.2/24 dev eth0
for host in "$a" "$b"; do ip -n "$host" link set lo up; done
ip -n "$a" link set eth0 up
ip -n "$b" link set eth0 up
for host in "$a" "$b"; do
    until [[ $(ip netns exec "$host" cat /sys/class/net/eth0/operstate) == up ]]; do sleep 0.1; done
done

# In place of ssh: mpirun calls it with options, the host and a command.
cat >"$work/launch" <<LAUNCH
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
case \$1 in
    10.83.0.1) host=$a ;;
    10.83.0.2) host=$b ;;
    *) echo "no host \$1" >&2; exit 1 ;;
esac
shift
exec ip netns exec "\$host" sh -c "\$*"
LAUNCH
chmod +x "$work/launch"

# RANKS PROGRAM TASK MILLISECONDS, one rank on each host: with two, MPICH 4.0.2 over UCX hangs in MPI_Finalize. MPI
# would otherwise notice that the hosts share a machine.
run() {
    RAYON_NUM_THREADS=1 ip netns exec "$a" mpirun -launcher ssh -launcher-exec "$work/launch" -localhost 10.83.0.1 \
        -hosts 10.83.0.1,10.83.0.2 -genv MPIR_CVAR_NOLOCAL 1 -genv UCX_TLS tcp,self -genv UCX_NET_DEVICES eth0 -n "$@"
}
bytes() { ip netns exec "$a" cat "/sys/class/net/eth0/statistics/tx_bytes"; }

for task in operations ring; do
    sent=$(bytes)
    time run 2 "$program" "$task" 60000
    echo "$task: $(($(bytes) - sent)) bytes went from the first host to the second"
done

echo "The cable is cut while the ranks run; calls may wait 2 s."
run 2 "$program" loop 2000 &
job=$!
sleep 3
ip -n "$b" link set eth0 down
begun=$SECONDS
if wait "$job"; then
    echo "the job succeeded without its second host" >&2
    exit 1
fi
echo "the job has ended $((SECONDS - begun)) s after the cut"
