#!/usr/bin/env bash
# The composition as its users meet it, on one that `docker compose up` has just begun on empty volumes.
# Every command of docs/operations.md stands here or in a test, with $COMPOSE for `docker compose`.
#   COMPOSE  the command, with a project of its own: replicas are killed, and in the end its volumes are removed
#   NSENTER  what leads to the services' network, where that is not this one
set -euo pipefail
cd "$(dirname "$0")/../.."
export COMPOSE=${COMPOSE:?such as "docker compose --project-name digits-check"}
NSENTER=${NSENTER:-}
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
# Files that COMPOSE does not name would be replaced by one that is added.
[[ $COMPOSE == *" -f "* ]] && WITH_TLS="$COMPOSE -f docker-compose.tls.yml" ||
    WITH_TLS="$COMPOSE -f docker-compose.yml -f docker-compose.tls.yml"

make --no-print-directory .venv-serving/installed
smoke() { $NSENTER .venv-serving/bin/python -m tests.compose.smoke "$@"; }

up() {
    $COMPOSE up --detach --wait --no-build --pull never
    # Where all services share the network of one of them, that is another one now.
    [ -z "$NSENTER" ] || NSENTER="nsenter -n -t $(docker inspect -f '{{.State.Pid}}' "$($COMPOSE ps -q netns)")"
}

smoke ready locked classify page version_changes replica_dies replica_drains rolls_back rotates worker_dies

echo "== upgrade"
$COMPOSE build --quiet
smoke upgrades
$COMPOSE ps

echo "== TLS at the door"
.venv-serving/bin/python -m trustme --quiet --dir "$FOLDER" --identities localhost 127.0.0.1
mkdir "$FOLDER/tls"
install --mode 644 "$FOLDER/server.pem" "$FOLDER/tls/certificate.pem"
install --mode 644 "$FOLDER/server.key" "$FOLDER/tls/key.pem"
chmod 755 "$FOLDER"
export TLS_FOLDER=$FOLDER/tls
$WITH_TLS up --detach --wait --no-deps --no-build --pull never door
$NSENTER .venv-serving/bin/python -m serving classify data/mnist/t10k-images-idx3-ubyte.gz \
    --labels data/mnist/t10k-labels-idx1-ubyte.gz --server localhost:8080 --tls-ca "$FOLDER/client.pem" | grep "accuracy: 9"
$COMPOSE up --detach --wait --no-deps --no-build --pull never door

echo "== back up"
$COMPOSE exec -T postgres pg_dump --username prefect --format custom prefect > "$FOLDER/prefect.dump"
$COMPOSE exec -T worker flock model_repository/digits/.lock tar --create --directory model_repository . > "$FOLDER/models.tar"

echo "== stop, down and up again"
smoke stops
$COMPOSE down
up
smoke ready classify kept

echo "== restore, on empty volumes"
$COMPOSE down --volumes
$COMPOSE up --detach --wait postgres
$COMPOSE exec -T postgres pg_restore --username prefect --dbname prefect --no-owner < "$FOLDER/prefect.dump"
$COMPOSE run --rm --no-deps -T --entrypoint tar worker --extract --directory model_repository < "$FOLDER/models.tar"
up
smoke ready classify kept
echo "== smoke: all of it holds"
