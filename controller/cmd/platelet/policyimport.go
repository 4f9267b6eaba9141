package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/segmentation/kubernetes"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

func policyImportCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Make policies of those of others"}
	cmd.AddCommand(policyImportKubernetesCommand())
	return cmd
}

func policyImportKubernetesCommand() *cobra.Command {
	var mode string
	var ports map[string]string
	cmd := &cobra.Command{
		Use: "kubernetes FILE...", Short: "Make policies of NetworkPolicy and AdminNetworkPolicy resources", Args: cobra.MinimumNArgs(1),
		Long: `Make policies of resources of Kubernetes: NetworkPolicy of networking.k8s.io/v1,
AdminNetworkPolicy and BaselineAdminNetworkPolicy of
policy.networking.k8s.io/v1alpha1, and lists of them as kubectl get -o yaml
prints them. What cannot be said is refused by its place. The other policy
commands read such files as they are.

Pods are workloads with the labels of the pod, with those of its namespace
behind "ns:", and with the namespace's name as k8s:namespace.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opt := kubernetes.Options{Ports: map[string]policy.Service{}}
			if err := opt.Mode.UnmarshalText([]byte(mode)); err != nil {
				return usage("policy import: --mode: %v", err)
			}
			for name, text := range ports {
				s, err := namedPort(text)
				if err != nil {
					return usage("policy import: --port %s: %v", name, err)
				}
				opt.Ports[name] = s
			}
			var files []policy.Source
			for _, name := range args {
				raw, err := readFile(name)
				if err != nil {
					return fmt.Errorf("policy import: %w", err)
				}
				files = append(files, policy.Source{Name: name, Data: raw})
			}
			src, notes, err := kubernetes.Translate(opt, files...)
			if err != nil {
				return err
			}
			for _, n := range notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: note: %s\n", n.Position, n.Text)
			}
			set, err := policy.Read(src)
			if err != nil {
				return err
			}
			raw, err := set.Marshal()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
	cmd.Flags().StringVar(&mode, "mode", policy.ModeEnforce.String(), "mode of the policies: staged or enforce")
	cmd.Flags().StringToStringVar(&ports, "port", nil, "what a named port of containers is, such as http=tcp/8080")
	return cmd
}

// namedPort reads "tcp/8080".
func namedPort(text string) (policy.Service, error) {
	var s policy.Service
	proto, port, ok := strings.Cut(text, "/")
	if !ok {
		return s, fmt.Errorf("%q is not such as tcp/8080", text)
	}
	if err := s.Proto.UnmarshalText([]byte(proto)); err != nil {
		return s, err
	}
	s.Ports = make([]policy.PortRange, 1)
	if err := s.Ports[0].UnmarshalText([]byte(port)); err != nil {
		return s, err
	}
	if !s.Proto.HasPorts() {
		return s, fmt.Errorf("%s has no ports", s.Proto)
	}
	return s, nil
}
