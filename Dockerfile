# footplate in a container. For a GPU, build with --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
FROM python:3.13-slim-trixie

# Libraries of OpenCV, which code bases import. Debian keeps only the latest versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0t64 \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=export
WORKDIR /opt/footplate
COPY . .
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
RUN pip install --no-cache-dir --constraint constraints.txt ./operators ".[$EXTRAS]"

# Run as the user who mounts a folder: docker run --user "$(id -u)" --volume "$PWD:/work" footplate train my_config.py
USER 1000
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["footplate"]
CMD ["--help"]
