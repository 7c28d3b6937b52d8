# shellcheck shell=bash
# Owns: the control groups /containarium-lab/<member> in every hierarchy, by which
# the lab knows its processes and kills all of them at once.
# Must never: touch a group outside /containarium-lab.
#
#   <hierarchy>/containarium-lab/jump-1   all of a node; root of its cgroup namespace
#   <hierarchy>/containarium-lab/host     what runs beside the nodes (coordinator ...)
#
# Each node sees its group as "/", so two nodes may both hold an instance "alice".

readonly CGROUP_NAME=containarium-lab

cgroup_hierarchies() { awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts; }
cgroup_is_pure_v2() { [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; }

# The hierarchy processes are looked up in; a v2 one if there is any, as only
# those have cgroup.kill.
cgroup_main() { awk '$3 == "cgroup2" { print $2; found = 1; exit } $3 == "cgroup" && !v1 { v1 = $2 } END { if (!found) print v1 }' /proc/mounts; }

cgroup_create() {
  local hierarchy group
  while read -r hierarchy; do
    for group in "$hierarchy/$CGROUP_NAME" "$hierarchy/$CGROUP_NAME/$1"; do
      mkdir -p "$group"
      # An empty cpuset takes no process.
      if [[ -e $group/cpuset.cpus && -z $(<"$group/cpuset.cpus") && -e $group/cpuset.sched_load_balance ]]; then
        cat "${group%/*}/cpuset.mems" >"$group/cpuset.mems"
        cat "${group%/*}/cpuset.cpus" >"$group/cpuset.cpus"
      fi
    done
  done < <(cgroup_hierarchies)
  if cgroup_is_pure_v2; then cgroup_delegate_v2 "$1"; fi
}

# v2 alone: a group that hands out controllers may hold no process itself, so a
# node's own processes live one level down, in "node". (Our machines are hybrid:
# this branch is written from the documentation.)
cgroup_delegate_v2() {
  local group controllers
  controllers=$(sed 's/\([a-z]\+\)/+\1/g' /sys/fs/cgroup/cgroup.controllers)
  mkdir -p "/sys/fs/cgroup/$CGROUP_NAME/$1/node"
  for group in /sys/fs/cgroup "/sys/fs/cgroup/$CGROUP_NAME"; do
    echo "$controllers" >"$group/cgroup.subtree_control"
  done
}

# Moves the calling shell in.
cgroup_join() {
  local hierarchy
  while read -r hierarchy; do
    if [[ -d $hierarchy/$CGROUP_NAME/$1/node ]] && cgroup_is_pure_v2 && [[ ${2:-} != root ]]; then
      echo "$BASHPID" >"$hierarchy/$CGROUP_NAME/$1/node/cgroup.procs"
    else
      echo "$BASHPID" >"$hierarchy/$CGROUP_NAME/$1/cgroup.procs"
    fi
  done < <(cgroup_hierarchies)
}

cgroup_has_pid() {
  local group
  group=$(cgroup_main)/$CGROUP_NAME/$1
  grep -qsx "$2" "$group/cgroup.procs" "$group/node/cgroup.procs"
}

# Pids of a member with all its sub-groups (of the whole lab without argument).
cgroup_pids() {
  local hierarchy
  while read -r hierarchy; do
    # A group can go away while it is read.
    find "$hierarchy/$CGROUP_NAME${1:+/$1}" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done < <(cgroup_hierarchies) | sort -un
}

cgroup_kill_once() {
  local main pids
  main=$(cgroup_main)/$CGROUP_NAME${1:+/$1}
  if [[ -e $main/cgroup.kill ]]; then echo 1 2>/dev/null >"$main/cgroup.kill" || true; fi
  mapfile -t pids < <(cgroup_pids "$@")
  ((${#pids[@]} > 0)) || return 0
  kill -9 "${pids[@]}" 2>/dev/null || true
  return 1
}

cgroup_kill() {
  wait_for 20 cgroup_kill_once "$@" ||
    fail "processes of ${1:-the lab} survive kill -9 (stuck in the kernel?): $(cgroup_pids "$@" | tr '\n' ' ')"
}

# The kernel frees a dead process's group a moment after the process.
cgroup_remove_once() {
  local hierarchy group left=0
  while read -r hierarchy; do
    group=$hierarchy/$CGROUP_NAME${1:+/$1}
    [[ -d $group ]] || continue
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ ! -d $group ]] || left=1
  done < <(cgroup_hierarchies)
  return $left
}
cgroup_remove() { wait_for 10 cgroup_remove_once "$@" || fail "could not remove the control groups of ${1:-the lab}"; }
