# The gateway in an image without a shell: docker build -t cosgate .
#
# Without access to Docker Hub, gcr.io and crates.io, name mirrors:
#   --build-arg DOCKER_HUB=mirror.example.com --build-arg DISTROLESS=mirror.example.com/distroless
#   --secret id=cargo_config,src=config.toml   (cargo's own file, with [source.crates-io] replace-with = ...)
# There is no `# syntax=` line for that reason: it would be fetched from Docker Hub, too.
#
# For another architecture than the builder's: --platform linux/arm64, or --build-arg TARGETARCH=arm64. It is compiled
# across, not emulated, and then a Debian mirror and static.rust-lang.org are needed as well.

ARG DOCKER_HUB=docker.io
ARG DISTROLESS=gcr.io/distroless

FROM --platform=$BUILDPLATFORM ${DOCKER_HUB}/library/rust:1.95-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
# A version of cargo-auditable: the binary then carries the list of its dependencies, for scanners.
ARG AUDITABLE=
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# The compiler by Debian's name for the architecture, in the versions of the Debian release that the base image is.
# hadolint ignore=DL3008
RUN case "$TARGETARCH" in \
        amd64) triplet=x86_64-linux-gnu loader=lib64/ld-linux-x86-64.so.2 ;; \
        arm64) triplet=aarch64-linux-gnu loader=lib/ld-linux-aarch64.so.1 ;; \
        *) echo "TARGETARCH is amd64 or arm64, not '$TARGETARCH'" >&2; exit 1 ;; \
    esac; \
    target=${triplet/-linux/-unknown-linux}; \
    if [[ $TARGETARCH != "$BUILDARCH" ]]; then \
        apt-get update; \
        apt-get install -y --no-install-recommends "gcc-${triplet/_/-}" "libc6-dev-$TARGETARCH-cross"; \
        rm -rf /var/lib/apt/lists/*; \
        rustup target add "$target"; \
    fi; \
    printf '%s=%q\n' triplet "$triplet" loader "$loader" target "$target" >/target.env

# The source is mounted and not copied, so that nothing of it stays in a layer. Caches outlive the build.
# hadolint ignore=SC1091,SC2154
RUN --mount=type=bind,target=/src \
    --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    --mount=type=secret,id=cargo_config,target=/usr/local/cargo/config.toml \
    source /target.env; \
    variable=${target//-/_}; \
    export "CARGO_TARGET_${variable^^}_LINKER=$triplet-gcc" "CC_$variable=$triplet-gcc"; \
    # a tenth of the size of relocations; glibc 2.36 and later understand it, and the image has its own
    export "CARGO_TARGET_${variable^^}_RUSTFLAGS=-C link-arg=-Wl,-z,pack-relative-relocs"; \
    build=(build); \
    if [[ -n $AUDITABLE ]]; then \
        cargo install --quiet --locked --root /target/tools "cargo-auditable@$AUDITABLE"; \
        PATH=/target/tools/bin:$PATH build=(auditable build); \
    fi; \
    cargo "${build[@]}" --manifest-path /src/Cargo.toml --locked --profile dist --bin cosgate --target "$target" --target-dir /target; \
    install -D "/target/$target/dist/cosgate" /image/usr/local/bin/cosgate

# What the program links to, and nothing else of a distribution: that keeps the image at 30 MB. The packages are noted
# where scanners look for them.
# hadolint ignore=SC1091,SC2154
RUN source /target.env; \
    install -D "$("$triplet-gcc" -print-file-name="${loader##*/}")" "/image/$loader"; \
    for library in libc.so.6 libm.so.6 libgcc_s.so.1; do \
        install -D -m 644 "$("$triplet-gcc" -print-file-name="$library")" "/image/lib/$triplet/$library"; \
    done; \
    mkdir -p /image/var/lib/dpkg/status.d; \
    for package in libc6 libgcc-s1; do \
        dpkg-query --status "$package" | sed "s/^Architecture: .*/Architecture: $TARGETARCH/" \
            >"/image/var/lib/dpkg/status.d/$package"; \
    done; \
    install -d -m 750 -o 65532 -g 65532 /image/data

# The base has the target's architecture, whatever the builder's is.
# hadolint ignore=DL3029
FROM --platform=linux/${TARGETARCH} ${DISTROLESS}/static-debian12:nonroot
ARG VERSION=0.2.0
# of the release: the commit, its time (RFC 3339), and where source and documents are
ARG REVISION=
ARG CREATED=
ARG SOURCE=
LABEL org.opencontainers.image.title="cosgate" \
      org.opencontainers.image.description="FTP and FTPS gateway in front of object storage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}" \
      org.opencontainers.image.vendor="the cosgate project" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian12:nonroot"
COPY --from=build /image/ /
# the embedded store's directory, ./cosgate-data
WORKDIR /data
VOLUME /data
# by number, so that Kubernetes sees that it is not root
USER 65532:65532
EXPOSE 2121 30000-30015
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/usr/local/bin/cosgate", "health"]
ENTRYPOINT ["/usr/local/bin/cosgate"]
CMD ["serve"]
