module github.com/go-taskmanager/taskmanager/examples/replicas

go 1.25.0

require (
	github.com/go-taskmanager/taskmanager v0.0.0
	github.com/go-taskmanager/taskmanager/lease v0.0.0
	github.com/go-taskmanager/taskmanager/lease/kubelease v0.0.0
	github.com/go-taskmanager/taskmanager/lease/natslease v0.0.0
	github.com/go-taskmanager/taskmanager/lease/pglease v0.0.0
	github.com/nats-io/nats-server/v2 v2.14.5
	github.com/nats-io/nats.go v1.51.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
)

require (
	github.com/antithesishq/antithesis-sdk-go v0.7.2-default-no-op // indirect
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.13.0 // indirect
	github.com/klauspost/compress v1.19.2 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.55.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.41.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace (
	github.com/go-taskmanager/taskmanager => ../..
	github.com/go-taskmanager/taskmanager/lease => ../../lease
	github.com/go-taskmanager/taskmanager/lease/kubelease => ../../lease/kubelease
	github.com/go-taskmanager/taskmanager/lease/natslease => ../../lease/natslease
	github.com/go-taskmanager/taskmanager/lease/pglease => ../../lease/pglease
)
