#!/bin/sh
# A llama-bench that does what the file `.kind` beside it says; each window takes 40 ms by its own account.
kind=$(cat "$0.kind" 2>/dev/null)
case "$1" in
--help)
    [ "$kind" = other ] && { echo 'usage: something else'; exit 0; }
    echo 'usage: llama-bench'; echo '  -p, --n-prompt <n>'; echo '  -n, --n-gen <n>'; echo '  -gp <pp,tg>'; exit 0 ;;
esac
echo "$*" >>"$0.calls"
while [ $# -gt 1 ]; do
    case "$1" in
    -m) model=$2 ;; -t) threads=$2 ;; -p) prompt=$2 ;; -n) generated=$2 ;; -r) windows=$2 ;;
    esac
    shift 2
done
echo 'prose on stderr' >&2
sleep 0.1
case "$kind" in
slow) sleep 60 & touch "$0.hanging"; wait ;;
crash) kill -SEGV $$ ;;
code) echo 'error: failed to load model' >&2; exit 3 ;;
garbage) echo 'Loading... done'; exit 0 ;;
silent) exit 0 ;;
half) printf '[ { "build_commit": "abc'; exit 0 ;;
threads) threads=7 ;;
other-test) generated=1 ;;
esac
ns=40000000
samples=$ns
speed=$(((prompt + generated) * 25))
count=1
while [ $count -lt "$windows" ]; do samples="$samples, $ns"; count=$((count + 1)); done
cat <<JSON
[
  {
    "build_commit": "abc1234", "build_number": 42, "cpu_info": "A CPU", "gpu_info": "",
    "model_filename": "$model", "model_type": "bitnet tiny TQ2_0", "model_size": 1000, "model_n_params": 4000,
    "n_threads": $threads, "type_k": "f16", "type_v": "f16", "n_prompt": $prompt, "n_gen": $generated,
    "avg_ns": $ns, "stddev_ns": 0, "avg_ts": $speed.0, "stddev_ts": 0.0,
    "samples_ns": [ $samples ]
  }
]
JSON
