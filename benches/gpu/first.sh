#!/usr/bin/env bash
# A shorter run for a first look at a card: libraries, correctness, the Python stack's parts alone, ours with and without flags.
exec "${PYTHON:-python3}" -u "$(dirname "$0")/run.py" --seconds 150 --measure 1.5 --pictures 6000 --samples 200 \
    --only limits,weights,embed-flags,features,join-exact,decoders,embedder,step,join,decode-400,variants,losses "$@"
