#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: the correctness suite, then, if all of it passed, the benchmark, then PyTorch's
# side of it where python3 has torch with CUDA. Results go to a folder as JSON, with the logs.
#
#   ./run.sh [RESULTS]                       default: results
#   STEPS="tests bench" ./run.sh RESULTS     some of the steps tests, bench, pytorch
#   FILTER="cuda dilated bf16" ./run.sh      cases of the benchmark whose name contains this
#   QUICK=1 ./run.sh                         small sizes, few repeats: shows that everything runs
#
# It needs the driver, CUDA's run-time compiler (NVRTC) and CUDA's headers, nothing else. Where the programs look:
#
#   driver     libcuda.so, libcuda.so.1           by dlopen: LD_LIBRARY_PATH, then ldconfig's cache
#   NVRTC      libnvrtc.so, libnvrtc.so.12        likewise
#   headers    $CUDA_PATH/include, $CUDA_PATH/include/cccl; without CUDA_PATH /usr/local/cuda, then /opt/cuda, then
#              /usr if there is /usr/bin/nvcc
#
# So the NVRTC that is found here, of any version, gets the name libnvrtc.so in a folder of its own, and the headers
# that belong to it are gathered in another. First a toolkit, then the wheels that PyTorch brings (of CUDA 12 and
# 13), then the system's library with the headers of this archive, if it has any. NVRTC must not be newer than the
# driver, which compiles its PTX.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-results}" || exit 1
results=$(cd "${1:-results}" && pwd)
libraries=${LD_LIBRARY_PATH:-}
steps=${STEPS:-tests bench pytorch}
cuda=$(mktemp -d)
trap 'rm -rf "$cuda"' EXIT
mkdir -p "$cuda/lib" "$cuda/include"

# nvidia/*/ of the Python packages, as NVIDIA's wheels lay them out.
wheels() {
    command -v python3 >/dev/null && python3 - <<'PYTHON'
import glob, os, site, sys
folders = dict.fromkeys([*sys.path, *site.getsitepackages(), site.getusersitepackages()])
for folder in folders:
    for part in sorted(glob.glob(os.path.join(folder or ".", "nvidia", "*", ""))):
        print(os.path.abspath(part))
PYTHON
}

# The first libnvrtc.so* in the folders; not its builtins.
nvrtc_in() {
    local folder file
    for folder in "$@"; do
        for file in "$folder"/libnvrtc.so "$folder"/libnvrtc.so.*; do
            if [[ -e $file ]]; then
                echo "$file"
                return
            fi
        done
    done
}

# What is in the folders under the names that it has there; the first of a name counts.
gather() {
    local folder file
    for folder in "$@"; do
        for file in "$folder"/*; do
            [[ -e $file && ! -e $cuda/include/${file##*/} ]] && ln -s "$file" "$cuda/include/"
        done
    done
    return 0
}

nvrtc= headers=()
for toolkit in "${CUDA_PATH:-}" /usr/local/cuda /opt/cuda; do
    [[ -n $toolkit && -z $nvrtc ]] || continue
    nvrtc=$(nvrtc_in "$toolkit/lib64" "$toolkit/lib" "$toolkit/targets/x86_64-linux/lib")
    [[ -n $nvrtc ]] && headers=("$toolkit/include" "$toolkit/targets/x86_64-linux/include")
done
mapfile -t parts < <(wheels)
if [[ -z $nvrtc ]]; then
    nvrtc=$(nvrtc_in "${parts[@]/%//lib}")
    # Those of CUDA 13 share a folder, those of CUDA 12 have one each.
    [[ -n $nvrtc ]] && headers=("$(dirname "$nvrtc")/../include" "${parts[@]/%//include}")
fi
if [[ -z $nvrtc ]]; then
    nvrtc=$(ldconfig -p 2>/dev/null | sed -n 's/.*libnvrtc\.so[.0-9]* .*=> //p' | head -n 1)
fi
if [[ -z $nvrtc ]]; then
    echo "no libnvrtc.so: set CUDA_PATH to a CUDA toolkit, or install one, or nvidia-cuda-nvrtc from PyPI" >&2
    exit 1
fi
gather "${headers[@]}" "$here/include"
export CUDA_PATH=$cuda
# A distribution's toolkit: the whole of /usr/include is not to be gathered.
[[ ! -e $cuda/include/cuda_fp16.h && -e /usr/include/cuda_fp16.h ]] && export CUDA_PATH=/usr
ln -s "$nvrtc" "$cuda/lib/libnvrtc.so"
# NVRTC looks for its builtins beside it.
export LD_LIBRARY_PATH="$cuda/lib:$(dirname "$(readlink -f "$nvrtc")"):$(dirname "$nvrtc")${libraries:+:$libraries}"
if [[ ! -e $CUDA_PATH/include/cuda_fp16.h ]]; then
    echo "no cuda_fp16.h beside $nvrtc: set CUDA_PATH to a toolkit, or install nvidia-cuda-runtime from PyPI" >&2
    exit 1
fi
[[ -e $CUDA_PATH/include/cuda/barrier || -e $CUDA_PATH/include/cccl/cuda/barrier ]] ||
    echo "no cuda/barrier among the headers (nvidia-cuda-cccl): kernels that copy asynchronously will not compile"

# The tests fail rather than skip where there is no device.
export LONGNET_TEST_DEVICE=cuda LONGNET_REQUIRE=cuda
# CubeCL caches what it has tuned where it stands: for all steps, but not for another run.
cd "$cuda" || exit 1

{
    echo "archive $(cat "$here/commit")"
    echo "NVRTC $(readlink -f "$nvrtc")"
    nvidia-smi 2>&1
} | tee "$results/machine.txt"

steps_json=() failed=0
# NAME LOG COMMAND...: runs it, keeps what it prints, and notes how it ended.
step() {
    local name=$1 log=$2 start=$SECONDS status
    shift 2
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee "$results/$log"
    status=${PIPESTATUS[0]}
    ((status == 0)) || failed=1
    steps_json+=("  {\"step\": \"$name\", \"status\": $status, \"seconds\": $((SECONDS - start)), \"log\": \"$log\"}")
    { echo "["; (IFS=,; printf '%s\n' "${steps_json[*]}"); echo "]"; } >"$results/steps.json"
    return "$status"
}

if [[ " $steps " == *" tests "* ]]; then
    # As the device would have them; then each routine by name. A test whose problem a routine declines runs in plain
    # tensor ops, so tensor cores are asked for where half precision is tested. One thread: the device is shared.
    few=${QUICK:+LONGNET_ORACLE_CONFIGS=2}
    step "device" test-device.log env $few "$here/test-device" --test-threads 1 &&
        step "half precision" test-half-precision.log "$here/test-half-precision" --test-threads 1 on_a_device &&
        step "device, tensor cores" test-device-mma.log \
            env LONGNET_ROUTINE=mma $few "$here/test-device" --test-threads 1 half_precision bf16 &&
        step "device, units" test-device-unit.log \
            env LONGNET_ROUTINE=unit:32,16,2 LONGNET_ORACLE_CONFIGS=4 "$here/test-device" --test-threads 1
    if ((failed)); then
        echo "the correctness suite has failed: nothing is measured" >&2
        exit 1
    fi
fi

if [[ " $steps " == *" bench "* ]]; then
    # Its JSON file is named after the date and the GPU.
    step "benchmark" bench.log \
        "$here/bench" --filter "${FILTER:-cuda}" --threads "$(nproc)" --out "$results" ${QUICK:+--quick}
fi

if [[ " $steps " == *" pytorch "* ]]; then
    if LD_LIBRARY_PATH="$libraries" python3 -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
        # PyTorch has libraries of its own.
        pytorch=(env -u CUDA_PATH LD_LIBRARY_PATH="$libraries" python3 "$here/gpu.py")
        step "PyTorch, correctness" pytorch-check.log "${pytorch[@]}" --check &&
            step "PyTorch" pytorch.log "${pytorch[@]}" --out "$results/torch.json" ${QUICK:+--quick}
        ours=$(ls -t "$results"/20*.json 2>/dev/null | head -n 1)
        if [[ -n $ours && -e $results/torch.json ]]; then
            step "beside PyTorch" beside.log "${pytorch[@]}" --out "$results/torch.json" --beside "$ours"
        fi
    else
        echo "python3 has no torch with CUDA: PyTorch is not measured" | tee "$results/pytorch.log"
    fi
fi
printf '\n%s\n' "$results"
exit "$failed"
