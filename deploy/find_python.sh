#!/usr/bin/env bash
# Prints the path of a Python 3.11 that can make virtual environments, or says on stderr what is missing.
# usage: find_python.sh [interpreter]
set -euo pipefail

wanted="3.11"
if [ "$#" -gt 0 ]; then candidates=("$1"); else candidates=(python3.11 python3 python); fi

seen=""
for candidate in "${candidates[@]}"; do
  path="$(command -v "$candidate" || true)"
  [ -n "$path" ] || continue
  version="$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)"
  if [ "$version" = "$wanted" ]; then
    if ! "$path" -c 'import venv, ensurepip' 2>/dev/null; then
      echo "error: $path is Python $wanted without venv. On Debian: apt-get install python3-venv" >&2
      exit 2
    fi
    echo "$path"
    exit 0
  fi
  seen="$seen  $path is Python ${version:-unknown}"$'\n'
done

{
  echo "error: Hardcase needs Python $wanted (every pin in constraints.txt is resolved for it); none was found."
  printf '%s' "$seen"
  echo "Install it (Debian 12: apt-get install python3.11-venv; elsewhere: pyenv install $wanted, uv python install $wanted)"
  echo "or name it: make up PYTHON=/path/to/python$wanted"
} >&2
exit 2
