module github.com/hooktrust/hooktrust/examples/keys

go 1.26.0

replace github.com/hooktrust/hooktrust => ../..

require (
	github.com/hooktrust/hooktrust v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
)
