# The README's own commands in a clean image. `docker run IMAGE` runs the main job on the CPU.
FROM python:3.12
WORKDIR /bidkv
COPY . .
RUN make env
CMD make bench
