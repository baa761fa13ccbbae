# cluster.sh DIR PORT PORT PORT starts a cluster of the nodes n1 and n2 with all it writes in DIR, on the loopback
# address, and stays until a daemon ends.
#
# Runs in mount and pid namespaces of its own: whatever is mounted or started here is gone with the first process.
set -eu
dir=$1 ports=("${@:2}")
host=$(hostname -s)

# crun refuses a host that has both versions of control groups mounted.
! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified

mkdir "$dir/controller" "$dir/n1" "$dir/n2" "$dir/local"
(umask 077 && head -c 128 /dev/urandom >"$dir/munge.key")
cat >"$dir/slurm.conf" <<CONF
ClusterName=ocibundle
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
SlurmctldPort=${ports[0]}
StateSaveLocation=$dir/controller
SlurmctldPidFile=$dir/controller.pid
SlurmctldLogFile=$dir/controller.log
SlurmdSpoolDir=$dir/%n
SlurmdPidFile=$dir/%n.pid
SlurmdLogFile=$dir/%n.log
# The nodes promise more processors than the machine may have.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,sched_interval=1,batch_sched_delay=0,bf_interval=1,default_queue_depth=1000
MailProg=/bin/true
KillWait=2
ReturnToService=2
Prolog=$dir/prolog
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=8
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=8
PartitionName=all Nodes=n1,n2 Default=YES State=UP
CONF

export SLURM_CONF=$dir/slurm.conf
munged --foreground --socket="$dir/munge.socket" --key-file="$dir/munge.key" --pid-file="$dir/munge.pid" \
    --log-file="$dir/munge.log" --seed-file="$dir/munge.seed" &
until [ -S "$dir/munge.socket" ]; do sleep 0.05; done
slurmctld -D &
for node in n1 n2; do
    # A disk of its own.
    unshare --mount --propagation private sh -euc 'mount -t tmpfs -o mode=1777 tmpfs "$1/local"; exec slurmd -D -N "$2"' sh "$dir" "$node" &
done
wait -n
