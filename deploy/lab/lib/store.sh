# shellcheck shell=bash
# Owns: what three coordinators share, as seen from outside: a PostgreSQL and an
# etcd, each a machine of its own; who of the coordinators leads.
# Must never: know more of the database than the row that says who leads.

store_address() {
  case $1 in
    postgres) echo $POSTGRES_ADDRESS ;;
    etcd) echo $ETCD_ADDRESS ;;
    standby) echo $STANDBY_ADDRESS ;;
  esac
}

need_store_tools() {
  local tool
  for tool in etcd psql setpriv; do
    command -v $tool >/dev/null || fail_with $E_MISSING "$tool is missing: run deploy/packages/install first"
  done
}

# A CA of their own: who may use the stores is not who may use the fleet.
ensure_store_secrets() {
  local store
  "$(bin_dir)/containarium" cert generate --server-ip $POSTGRES_ADDRESS --server-ip $ETCD_ADDRESS \
    --output-dir "$STORE_CERTS_DIR" >>"$LOG_DIR/cert.log" 2>&1 || fail "cert generate failed: see $LOG_DIR/cert.log"
  for store in $STORES standby; do
    mkdir -p "$LAB_DIR/$store/certs"
    cp "$STORE_CERTS_DIR"/{ca.crt,server.crt,server.key} "$LAB_DIR/$store/certs/"
  done
  [[ ! -s $DATABASE_FILE ]] || return 0
  (
    umask 077
    uuidgen -r >"$LAB_DIR/postgres/secret"
    echo "postgres://fleet:$(<"$LAB_DIR/postgres/secret")@$POSTGRES_ADDRESS/fleet?sslmode=verify-full&sslrootcert=$STORE_CERTS_DIR/ca.crt" \
      >"$DATABASE_FILE.new"
  )
  cp -p "$LAB_DIR/postgres/secret" "$LAB_DIR/standby/secret"
  mv -f "$DATABASE_FILE.new" "$DATABASE_FILE"
}

store_start() {
  fabric_plug "$1" "$(store_address "$1")"
  host_supervise --apart "$1" "$1" bash "$LAB_CODE/lib/store-run" "$1" "$LAB_DIR/$1" "$(store_address "$1")" $POSTGRES_ADDRESS
}

postgres_ask() {
  PGPASSWORD=$(<"$LAB_DIR/postgres/secret") PGCONNECT_TIMEOUT=2 psql -qAtX -c "$1" \
    "host=$POSTGRES_ADDRESS user=fleet dbname=fleet sslmode=verify-full sslrootcert=$STORE_CERTS_DIR/ca.crt" 2>/dev/null
}
store_answers() {
  case $1 in
    postgres) postgres_ask "SELECT 1" >/dev/null ;;
    etcd) timeout 2 bash -c "exec 3<>/dev/tcp/$ETCD_ADDRESS/2379" 2>/dev/null ;;
  esac
}

stores_start() {
  local store
  ensure_store_secrets
  for store in $STORES; do store_start "$store"; done
}
stores_ready() {
  local store
  for store in $STORES; do
    wait_for 60 store_answers "$store" || fail "$store does not answer: see $LOG_DIR/$store.log"
  done
}

# The number of the coordinator that leads, by the row that counts.
leader() {
  local number address
  if ! is_ha; then
    echo 1
    return
  fi
  address=$(postgres_ask "SELECT address FROM lease") || fail_with $E_STATE "the database does not answer"
  for number in $(coordinator_numbers); do
    [[ $address != "$(coordinator_address "$number"):$COORDINATOR_PORT" ]] || { echo "$number"; return; }
  done
  fail_with $E_STATE "no coordinator leads"
}

standbys() { postgres_ask "SELECT count(*) FROM pg_stat_replication WHERE $1"; }
# Not its base backup, which streams too, and takes the settings with it.
standby_streams() { [[ $(standbys "state = 'streaming' AND application_name = 'walreceiver'") == 1 ]]; }
standby_is_waited_for() { [[ $(standbys "sync_state = 'sync'") == 1 ]]; }
store_standby() {
  store_start standby
  wait_for 60 standby_streams || fail "the standby does not follow: see $LOG_DIR/standby.log"
  # Only now: without a standby that streams, no commit would end.
  echo "synchronous_standby_names = '*'" >>"$LAB_DIR/postgres/home/data/postgresql.auto.conf"
  kill -HUP "$(host_pid_of postgres)"
  wait_for 10 standby_is_waited_for || fail "commits do not wait for the standby: see $LOG_DIR/postgres.log"
}

postgres_writes() { [[ $(postgres_ask "SELECT pg_is_in_recovery()") == f ]]; }
store_failover() {
  local pid
  pid=$(host_pid_of standby) || fail_with $E_STATE "there is no standby (lab store standby)"
  fabric_cut postgres
  kill -9 "$(host_pid_of postgres supervisor)" "$(host_pid_of postgres)"
  fabric_unplug postgres
  fabric_unplug standby
  # Before it is promoted: those who ask there find one that only reads.
  fabric_plug standby $POSTGRES_ADDRESS
  touch "$LAB_DIR/standby/home/data/promote"
  kill -USR1 "$pid"
  wait_for 60 postgres_writes || fail "the standby does not take over: see $LOG_DIR/standby.log"
}

cmd_store() {
  local pid usage="lab store stop|start|kill|pid postgres|etcd|standby, lab store standby|failover"
  is_ha || fail_with $E_STATE "this lab has one coordinator, on SQLite (lab down; lab up --ha)"
  case $* in
    standby) store_standby; return ;;
    failover) store_failover; return ;;
  esac
  [[ $# == 2 && " $STORES standby " == *" $2 "* ]] || fail_with $E_USAGE "usage: $usage"
  case $1 in
    start) store_start "$2" ;;
    stop) host_unsupervise "$2" ;;
    kill | pid)
      pid=$(host_pid_of "$2") || fail_with $E_STATE "$2 is not running"
      if [[ $1 == kill ]]; then kill -9 "$pid"; else echo "$pid"; fi
      ;;
    *) fail_with $E_USAGE "usage: $usage" ;;
  esac
}
