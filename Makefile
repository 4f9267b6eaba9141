# Two commands do everything on a bare Debian with Go: make demo, make test.
SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
GOFLAGS ?= -buildvcs=false
export GOFLAGS
BIN := bin/platelet
FUZZTIME ?= 20s
BENCHTIME ?= 1s

.PHONY: starter demo test build evaluate bench bench-peer image measure scoreboard fuzz lint clean deps

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $(BIN) ./controller/cmd/platelet

deps:
	@$(SUDO) scripts/install-deps.sh

# The main job, end to end: lab, attacks, detection, containment, release.
demo: deps build
	$(SUDO) $(BIN) lab demo --reconfigure lab/first.clab.yml

# Everything: static checks, unit, differential, fuzz seeds, and the tests on
# real switches in network namespaces. Most packages wait for most of their time
# (for rules to end, for hosts to be quiet) and run side by side; each has network
# namespaces of its own. Those in ALONE judge rates, losses or how soon an attack is
# noticed, and share the machine with their own attackers only. Last, our
# reading of topologies is held against containerlab's own, in its own module, our
# translation of Kubernetes' policies against cyclonus, and our OpenFlow against goloxi's.
ALONE := ./lab/agent ./lab/attack ./lab/benign ./lab/demo ./lab/intrusion ./lab/measure ./lab/wire
GOTEST = $(SUDO) env "PATH=$$PATH" GOFLAGS=$(GOFLAGS) go test -timeout 18m
test: build
	@$(SUDO) scripts/install-deps.sh --test
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt: the files above are not formatted"; exit 1; }
	go vet ./...
	$(GOTEST) -p 3 $$(go list ./... | grep -vxF "$$(go list $(ALONE))")
	$(GOTEST) -p 1 $(ALONE)
	cd lab/conformance && go vet ./... && $(GOTEST) ./...
	cd segmentation/kubernetes/conformance && go vet ./... && GOFLAGS=$(GOFLAGS) go test ./...
	cd controller/openflow/oracle && go vet ./... && $(GOTEST) ./...

# The detectors against labelled recordings, beside rules of one line.
DATA ?= ../shared/data/labelled
evaluate: build
	$(BIN) evaluate --labels controller/evaluate/testdata/public-labels.csv -o $(or $(FORMAT),text) $(DATA)

bench: deps
	$(SUDO) env "PATH=$$PATH" GOFLAGS=$(GOFLAGS) go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -p 1 ./...

# The scoreboard of the README: every attack on the first lab, two on the others.
# Half an hour on two cores, on which nothing else should run.
TOOLS := nmap-port-scan,nmap-port-scan-silent,nmap-host-sweep,nmap-arp-sweep,hping3-syn-flood,hping3-syn-flood-direct,hping3-udp-flood,hping3-icmp-flood
scoreboard: deps build
	$(SUDO) $(BIN) lab measure --matrix --reconfigure --attack agents,$(TOOLS) --others port-scan,syn-flood --runs 4 --release 1 --patience 4s --seed 1 \
	  --save lab/scoreboard --markdown README.md $(addprefix lab/,$(addsuffix .clab.yml,first branch fabric ot iot dc3tier))

# Time to contain for every attack of the tools, 20 runs each, from packet captures.
measure: deps build
	$(SUDO) $(BIN) lab measure lab/first.clab.yml --reconfigure --attack $(TOOLS) --runs 20 --save bin/measured

# The image of the labs' nodes, for containerlab; needs Docker.
image: build
	lab/image/build.sh $(BIN)

# Beside Debian's fastnetmon, on the same lab and the same flood.
bench-peer: build
	@$(SUDO) scripts/install-deps.sh --peer
	$(SUDO) $(BIN) lab bench-peer --reconfigure lab/first.clab.yml --runs 5

# The classifier's starter model, from the labelled sets in DATA; see detector/model/CARD.md, also for why one is not learned from.
starter: build
	$(BIN) train -o detector/model/starter.json --base none $(addprefix --from ,$(filter-out %/westermo-left,$(wildcard $(DATA)/*))) --labels controller/evaluate/testdata/public-labels.csv --without outside_share --ceiling 0.9
	UPDATE=1 go test ./detector/model -run TestCard -count=1

fuzz:
	@set -e; for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg; done; done

lint:
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...

clean:
	rm -rf bin
