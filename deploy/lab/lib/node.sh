# shellcheck shell=bash
# Owns: a node's life as seen from outside: boot, power cut, a command inside it.
# Must never: end a node gently (a power cut is the only way), or boot it twice.

node_pid() { # host pid of the node's PID 1; fails when the node is off
  local pid
  pid=$(cat "$RUN_DIR/$1.pid" 2>/dev/null) && [[ -n $pid ]] && cgroup_has_pid "$1" "$pid" || return 1
  echo "$pid"
}
node_is_running() { node_pid "$1" >/dev/null; }
node_root() { echo "/proc/$(node_pid "$1")/root"; }
node_is_ready() { [[ -e $(node_root "$1")/run/lab/ready ]]; }

# Replaces the shell by a command inside the node: call it in a subshell.
node_exec() {
  local name=$1 pid
  shift
  pid=$(node_pid "$name") || fail_with $E_STATE "$name is not running (lab start $name)"
  cgroup_join "$name"
  exec nsenter -t "$pid" --mount --uts --net --pid --cgroup --wdns=/ \
    env -i PATH=/run/lab/bin:/usr/libexec/incus:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    TERM="${TERM:-dumb}" LC_ALL=C.UTF-8 INCUS_CONF=/root/.config/incus "$@"
}

loop_is_free() { [[ -z $(losetup -nO NAME -j "$1" 2>/dev/null) ]]; }

# The pool's file is unmounted by the kernel some time after its last process is
# gone. Mounting it a second time beside the first would be refused, or worse.
wait_for_pool() {
  local pool=$NODES_DIR/$1/incus/disks/default.img
  [[ -e $pool ]] || return 0
  wait_for 15 loop_is_free "$pool" && return
  losetup -nO NAME -j "$pool" | xargs -r losetup -d || true
  wait_for 5 loop_is_free "$pool" ||
    fail "$pool is still attached to $(losetup -nO NAME -j "$pool" | tr '\n' ' '): something keeps it mounted"
}

# Boots a node and returns when its Incus and sshd answer. No-op when it runs.
node_start() {
  local name=$1 state=$NODES_DIR/$1 bins images
  if node_is_running "$name"; then
    wait_for 60 node_is_ready "$name" || fail "$name runs but is not ready: see $state/log"
    return
  fi
  node_crash "$name" # what a killed lab command may have left of it
  wait_for_pool "$name"
  mkdir -p "$state"/{etc,etc.work,var-lib,var-lib.work,incus,home,root,log,run} "$RUN_DIR" "$BACKUPS_DIR"
  chmod 0755 "$state"/{etc,var-lib,home,log} && chmod 0700 "$state/root" && chmod 0711 "$state/incus"
  bins=$(bin_dir) images=$(image_dir)
  mkdir -p "$bins" "$images"

  cgroup_create "$name"
  fabric_plug "$name" "$(node_address "$name")"
  fabric_dress_node "$name"
  (
    exec {LOCK_FD}>&- </dev/null >"$state/log/boot.log" 2>&1
    cgroup_join "$name" root
    cd /
    exec setsid nsenter --net="/run/netns/$name" \
      unshare --mount --uts --pid --cgroup --fork --propagation private \
      bash "$LAB_CODE/lib/node-init" "$name" "$state" "$bins" "$images" "$LAB_CODE" "$LAB_DIR" "$POOL_SIZE"
  ) &
  wait_for 10 node_found_or_dead "$name" $!
  node_is_running "$name" || fail "$name did not boot: $(tail -n 3 "$state/log/boot.log") (see $state/log/boot.log)"
  wait_for 90 node_is_ready_or_dead "$name"
  node_is_ready "$name" || fail "$name did not become ready: see $state/log/boot.log and $state/log/incus/incusd.log"
}
node_found_or_dead() { node_found "$1" || ! kill -0 "$2" 2>/dev/null; }
node_is_ready_or_dead() { ! node_is_running "$1" || node_is_ready "$1"; }

# PID 1 tells its host pid in its own /run, which nobody but it can find: look
# for the one process of the group that is number 1 in a pid namespace, and no
# container's (those are one namespace deeper).
node_found() {
  local pid
  for pid in $(cgroup_pids "$1"); do
    if [[ $(awk '$1 == "NSpid:" { print NF, $3 }' "/proc/$pid/status" 2>/dev/null) == "3 1" ]] &&
      [[ $(cat "/proc/$pid/root/run/lab/host-pid" 2>/dev/null) == "$pid" ]]; then
      echo "$pid" >"$RUN_DIR/$1.pid.new"
      mv -f "$RUN_DIR/$1.pid.new" "$RUN_DIR/$1.pid"
      return 0
    fi
  done
  return 1
}

# The power cut: off the wire first, so that no dying process says goodbye.
node_crash() {
  fabric_unplug "$1"
  cgroup_kill "$1"
  rm -f "$RUN_DIR/$1.pid"
  if [[ -e /run/netns/$1 ]]; then ip netns del "$1"; fi
  cgroup_remove "$1"
}

# The cloud's notice that it takes the machine away; the power cut that follows is
# the caller's.
node_notice() {
  local preempted
  preempted=$(node_root "$1")/run/lab/metadata/computeMetadata/v1/instance/preempted
  echo TRUE >"$preempted.new"
  mv -f "$preempted.new" "$preempted"
}

# What a machine loses with its boot disk: everything but Incus and its pool.
node_lose_boot_disk() {
  local dir
  for dir in etc etc.work var-lib var-lib.work home root log; do
    rm -rf --one-file-system "${NODES_DIR:?}/$1/$dir"
  done
}

# The machine is gone with its disks; what `start` boots next is a new one.
node_wipe() {
  node_crash "$1"
  wait_for_pool "$1"
  rm -rf --one-file-system "${NODES_DIR:?}/$1"
  mkdir "$NODES_DIR/$1"
}

# A service's pid inside the node, if it lives: node_service_pid NODE SERVICE
node_service_pid() {
  local root pid
  root=$(node_root "$1") 2>/dev/null || return 1
  pid=$(cat "$root/run/lab/$2.pid" 2>/dev/null) && [[ -d $root/proc/$pid ]] || return 1
  echo "$pid"
}

# Running containers, counted without asking Incus (which may be down).
node_containers() { find "$(cgroup_main)/$CGROUP_NAME/$1" -maxdepth 1 -name 'lxc.payload.*' 2>/dev/null | wc -l; }

# Every service with a supervisor in the node: NODE SERVICE CMD...
node_supervise() {
  local name=$1 service=$2
  shift 2
  (
    exec {LOCK_FD}>&- </dev/null >/dev/null 2>&1
    node_exec "$name" setsid --fork bash /run/lab/code/supervise /run/lab "$service" "/var/log/$service.log" "$@"
  )
}
