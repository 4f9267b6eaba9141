module github.com/platelet-sdn/platelet

go 1.26.8
