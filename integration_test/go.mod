module github.com/lifeguard-redis/lifeguard/integration_test

go 1.26.0

require github.com/lifeguard-redis/lifeguard v0.0.0

replace github.com/lifeguard-redis/lifeguard => ../
