#!/usr/bin/env bash
# The one door: makes the environment on the first call, then hands over to `python -m experiments` (experiments/start.py).
#
#   ./run_all.sh table8 | all | list | plan table8 | doctor | test | --help
#
# Environment variables:
#   TORCH_SPEC   what pip shall install as torch, e.g. "torch==2.13.0" or a wheel's path
#   PYTHON       the interpreter that makes .venv (default: python3)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv="$root/.venv"
py="$venv/bin/python"
here=$PWD
unset PYTHONDONTWRITEBYTECODE # images of containers set it; every call and training would compile our modules anew

say() { echo "run_all.sh: $*" >&2; }
die() { say "$1"; exit 1; }

# What an environment was made from. A changed lock makes pip bring it up to date.
stamp() { cat "$root/pyproject.toml" "$@" | cksum | tr ' ' '-'; }

pip() { "$py" -m pip --disable-pip-version-check "$@" 2>&1 | { grep -v '^WARNING: Location' || true; } >&2; }

# torch first, alone: what comes after is satisfied with it, and mmcv must not meet it while it builds.
install_torch() {
  "$py" -c 'import torch' 2>/dev/null && return
  local wanted
  wanted=$(grep '^torch==' "$root/requirements/torch.txt")
  if [ -n "${TORCH_SPEC:-}" ]; then
    say "installing $TORCH_SPEC"
    pip install -q "$TORCH_SPEC" || die "pip could not install TORCH_SPEC='$TORCH_SPEC'."
  elif nvidia-smi -L >/dev/null 2>&1; then
    say "installing $wanted (CUDA)"
    pip install -q "$wanted" || die "pip could not install '$wanted'; name another with TORCH_SPEC."
  else
    say "installing $wanted (CPU)"
    "$py" -m pip install -q --disable-pip-version-check "$wanted+cpu" >/dev/null 2>&1 ||
      pip install -q "$wanted" --extra-index-url https://download.pytorch.org/whl/cpu ||
      die "pip could not install '$wanted'; name another with TORCH_SPEC."
  fi
}

# make_environment NAME LOCK...: once, by one call at a time, all or nothing
make_environment() {
  local name=$1; shift
  local mark="$venv/.ready-$name" want
  want=$(stamp "$@")
  [ -f "$mark" ] && [ "$(cat "$mark")" = "$want" ] && return
  exec 9>"$root/.venv.lock"
  if command -v flock >/dev/null && ! flock -n 9; then
    say "another call is making the environment; waiting for it"
    flock 9
  fi
  if ! { [ -f "$mark" ] && [ "$(cat "$mark")" = "$want" ]; }; then
    local began=$SECONDS
    if [ ! -x "$py" ]; then
      local python=${PYTHON:-python3}
      "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        die "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python ./run_all.sh ..."
      say "making $venv (once; one to three minutes)"
      "$python" -m venv "$venv" || die "$python could not make $venv; on Debian: apt-get install python3-venv."
    fi
    install_torch
    say "installing the locked packages ($name)"
    local files=() lock
    for lock in "$@"; do files+=(-r "$lock"); done
    pip install -q "${files[@]}" ||
      die "pip could not install the packages of $*; see above, mend it and give the same command again."
    pip install -q --no-deps --no-build-isolation -e "$root" ||
      die "pip could not install the project into $venv; see above."
    echo "$want" >"$mark"
    say "environment ready after $((SECONDS - began)) s"
  fi
  exec 9>&-
}

make_environment core "$root/requirements/lock.txt"

case "${1:-}" in
test)
  shift
  make_environment dev "$root/requirements/lock.txt" "$root/requirements/lock-dev.txt"
  cd "$root"
  "$py" -m ruff check .
  "$py" -m ruff format --check .
  # types beside the tests: mypy keeps a single processor busy for most of a minute
  types=$(mktemp)
  trap 'rm -f "$types"' EXIT
  "$py" -m mypy >"$types" 2>&1 &
  checked=$!
  # one more than there are processors, since each waits for processes of its own now and then
  workers=$("$py" -c 'from experiments.machine import cpu_count; print(min(cpu_count() + 1, 8))')
  # a file of tests stays together: its tests share what was trained for them
  "$py" -m pytest -n "$workers" --dist loadfile "$@" && code=0 || code=$?
  wait "$checked" || ((code)) || code=1
  echo "mypy: $(cat "$types")"
  exit "$code"
  ;;
docs)
  shift
  make_environment dev "$root/requirements/lock.txt" "$root/requirements/lock-dev.txt"
  cd "$root"
  # the notice is about the next major version, which the lock does not take
  NO_MKDOCS_2_WARNING=1 "$py" -m mkdocs build --strict --quiet "$@"
  say "open results/docs/index.html"
  ;;
notebooks)
  make_environment dev "$root/requirements/lock.txt" "$root/requirements/lock-dev.txt"
  exec "$py" -W ignore "$root/experiments/start.py" experiments "$@"
  ;;
*)
  cd "$here"
  exec "$py" -W ignore "$root/experiments/start.py" experiments "$@"
  ;;
esac
