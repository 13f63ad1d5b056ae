#!/usr/bin/env bash
# Measures Telic on a GPU: builds the binary with CUDA here, where no toolkit is needed, and runs it on a machine that has an
# NVIDIA driver, Python, JAX and PyTorch. Prints how far training on the GPU is from training on the CPU, and the ratios of
# update times to JAX and PyTorch at the published sizes.
#
#   benches/gpu.sh user@machine     carries the binary and the scripts there with scp and runs them
#   benches/gpu.sh --here           runs them on this machine
#   benches/gpu.sh --pack FOLDER    leaves them in a folder: carry it yourself and start `bash run.sh` in it
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage
folder=$(mktemp -d)
case $1 in
  --pack) [ $# -eq 2 ] || usage; folder=$2; mkdir -p "$folder" ;;
  --here) trap 'rm -rf "$folder"' EXIT ;;
  -*) usage ;;
  *) trap 'rm -rf "$folder"' EXIT ;;
esac

cargo build --release --features cuda
strip -o "$folder/telic" target/release/telic
cp benches/device_agreement.py benches/peers/networks.py benches/peers/virtual_environment.py "$folder/"
cat >"$folder/run.sh" <<'RUN'
set -euo pipefail
cd "$(dirname "$0")"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
python3 device_agreement.py --telic ./telic --devices cpu,cuda
python3 device_agreement.py --telic ./telic --devices cuda,cuda --precisions f32,bf16 --tolerance 0.2
python3 networks.py --telic ./telic --device cuda
python3 networks.py --telic ./telic --device cuda --precision bf16
RUN

case $1 in
  --pack) echo "packed in $folder; start it with: bash run.sh" ;;
  --here) bash "$folder/run.sh" ;;
  *)
    there=$(ssh "$1" mktemp -d)
    scp -qr "$folder/." "$1:$there"
    ssh "$1" "bash $there/run.sh; code=\$?; rm -rf $there; exit \$code"
    ;;
esac
