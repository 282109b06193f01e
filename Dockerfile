# CPU:  docker build -t ssa-seg-lab .
#       docker run --rm -v "$PWD/out:/results" ssa-seg-lab
# GPU:  docker build -t ssa-seg-lab:gpu --build-arg TORCH_SPEC=torch==2.13.0 .
#       docker run --rm --gpus all -v "$PWD/out:/results" ssa-seg-lab:gpu
# Another item:  docker run --rm -v "$PWD/out:/results" ssa-seg-lab table9 --results /results
# The paper's data: -v /data:/data:ro and --data-root /data
FROM python:3.11-slim-bookworm

# a compiler for the losses' kernel, what OpenCV loads, git for the commit that records name
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# empty: the CPU build of the locked torch; for a GPU name it as pip shall install it (its CUDA build)
ARG TORCH_SPEC=""

WORKDIR /lab
# the environment depends on these alone, so that a change of code does not make it anew
COPY run_all.sh pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY ssa/__init__.py ssa/__init__.py
COPY experiments/start.py experiments/start.py
# the last word ends in an error, since the code is not there yet; the environment is what counts
RUN TORCH_SPEC="$TORCH_SPEC" ./run_all.sh list >/dev/null 2>&1 || test -f .venv/.ready-core

COPY . .
RUN ./run_all.sh list >/dev/null

VOLUME /results
ENTRYPOINT ["./run_all.sh"]
CMD ["table8", "--results", "/results"]
