# shellcheck shell=bash
# Files in and out. Contents go through a pipe: the host never follows a path in
# the machine's tree, and the machine never gets a descriptor of the host's files.

# machine_copy SRC DST, one of them with a ':' before it: the path inside.
machine_copy() {
  [ $# = 2 ] || usage_error "copy needs SRC and DST, one of them inside, written :PATH"
  case $1,$2 in
    :*,:*) usage_error "copy: SRC and DST are both inside" ;;
    :/*,?*) copy_out "${1#:}" "$2" ;;
    ?*,:/*) copy_in "$1" "${2#:}" ;;
    *) usage_error "copy: neither SRC nor DST is an absolute path inside, written :/PATH" ;;
  esac
}

copy_in() {
  local from=$1 to=$2
  if [ -d "$from" ]; then
    # shellcheck disable=SC2016 # for the shell inside
    tar -C "$from" -cf - . | machine_rawexec sh -c 'mkdir -p "$1" && tar -C "$1" --no-same-owner -xpf -' sh "$to"
  elif [ -f "$from" ]; then
    # Renamed when complete, so that nobody inside sees half a file.
    # shellcheck disable=SC2016
    cat -- "$from" | machine_rawexec sh -c '
      mkdir -p "$(dirname "$1")" && cat >"$1.part" && chmod "$2" "$1.part" && mv "$1.part" "$1"' \
      sh "$to" "$(stat -Lc %a "$from")"
  else
    die "copy: $from is neither a file nor a directory"
  fi
}

copy_out() {
  local from=$1 to=$2
  if machine_rawexec test -d "$from"; then
    mkdir -p "$to"
    machine_rawexec tar -C "$from" -cf - . | tar -C "$to" --no-same-owner --no-same-permissions -xf -
  else
    machine_rawexec cat -- "$from" | cat >"$to.part" || {
      rm -f "$to.part"
      die "copy: $from could not be read inside"
    }
    mv "$to.part" "$to"
  fi
}
