#!/usr/bin/env bash
# Ours, the Python stack and the bare limits on one card: see README.md. `PYTHON` is the interpreter that has torch [python3].
exec "${PYTHON:-python3}" -u "$(dirname "$0")/run.py" "$@"
