// Writes what the protobuf of Kubernetes looks like, as facts and as examples, from the published Go modules.
//
//	go run . table   > ../../model/build/protobuf.txt
//	go run . vectors ../../model/tests/protobuf
//
// The Go types carry everything in their tags: number and wire type (`protobuf:`), the JSON name, whether it is
// inlined, and when it is left out (`json:`); whether a field is a pointer decides when Go writes it at all. The
// .proto files beside them are made from the same tags and lack the last two, so the types are what is read.
//
// Both outputs are committed. Run this by hand when k8s-openapi's version moves; the build says so by failing.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	networking "k8s.io/api/networking/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	metabeta "k8s.io/apimachinery/pkg/apis/meta/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is one kind that may stand in an envelope.
type kind struct {
	version string // apiVersion; "*" where every version has it
	name    string
	object  runtime.Object
}

// kinds lists what is written to the table, in the order of the output.
var kinds = []kind{
	{"v1", "Namespace", &core.Namespace{}},
	{"v1", "NamespaceList", &core.NamespaceList{}},
	{"v1", "Node", &core.Node{}},
	{"v1", "NodeList", &core.NodeList{}},
	{"v1", "Pod", &core.Pod{}},
	{"v1", "PodList", &core.PodList{}},
	{"v1", "Service", &core.Service{}},
	{"v1", "ServiceList", &core.ServiceList{}},
	{"v1", "Endpoints", &core.Endpoints{}},
	{"v1", "EndpointsList", &core.EndpointsList{}},
	{"v1", "Event", &core.Event{}},
	{"v1", "EventList", &core.EventList{}},
	{"v1", "Binding", &core.Binding{}},
	{"v1", "ServiceAccount", &core.ServiceAccount{}},
	{"v1", "ServiceAccountList", &core.ServiceAccountList{}},
	{"v1", "Secret", &core.Secret{}},
	{"v1", "SecretList", &core.SecretList{}},
	{"events.k8s.io/v1", "Event", &events.Event{}},
	{"events.k8s.io/v1", "EventList", &events.EventList{}},
	{"discovery.k8s.io/v1", "EndpointSlice", &discovery.EndpointSlice{}},
	{"discovery.k8s.io/v1", "EndpointSliceList", &discovery.EndpointSliceList{}},
	{"networking.k8s.io/v1", "ServiceCIDR", &networking.ServiceCIDR{}},
	{"networking.k8s.io/v1", "ServiceCIDRList", &networking.ServiceCIDRList{}},
	{"networking.k8s.io/v1", "IPAddress", &networking.IPAddress{}},
	{"networking.k8s.io/v1", "IPAddressList", &networking.IPAddressList{}},
	{"coordination.k8s.io/v1", "Lease", &coordination.Lease{}},
	{"coordination.k8s.io/v1", "LeaseList", &coordination.LeaseList{}},
	{"rbac.authorization.k8s.io/v1", "Role", &rbac.Role{}},
	{"rbac.authorization.k8s.io/v1", "RoleList", &rbac.RoleList{}},
	{"rbac.authorization.k8s.io/v1", "RoleBinding", &rbac.RoleBinding{}},
	{"rbac.authorization.k8s.io/v1", "RoleBindingList", &rbac.RoleBindingList{}},
	{"rbac.authorization.k8s.io/v1", "ClusterRole", &rbac.ClusterRole{}},
	{"rbac.authorization.k8s.io/v1", "ClusterRoleList", &rbac.ClusterRoleList{}},
	{"rbac.authorization.k8s.io/v1", "ClusterRoleBinding", &rbac.ClusterRoleBinding{}},
	{"rbac.authorization.k8s.io/v1", "ClusterRoleBindingList", &rbac.ClusterRoleBindingList{}},
	{"authentication.k8s.io/v1", "SelfSubjectReview", &authentication.SelfSubjectReview{}},
	{"authentication.k8s.io/v1", "TokenRequest", &authentication.TokenRequest{}},
	{"authorization.k8s.io/v1", "LocalSubjectAccessReview", &authorization.LocalSubjectAccessReview{}},
	{"authorization.k8s.io/v1", "SubjectAccessReview", &authorization.SubjectAccessReview{}},
	{"authorization.k8s.io/v1", "SelfSubjectAccessReview", &authorization.SelfSubjectAccessReview{}},
	{"authorization.k8s.io/v1", "SelfSubjectRulesReview", &authorization.SelfSubjectRulesReview{}},
	{"meta.k8s.io/v1", "PartialObjectMetadata", &meta.PartialObjectMetadata{}},
	{"meta.k8s.io/v1", "PartialObjectMetadataList", &meta.PartialObjectMetadataList{}},
	{"meta.k8s.io/v1beta1", "PartialObjectMetadata", &meta.PartialObjectMetadata{}},
	{"meta.k8s.io/v1beta1", "PartialObjectMetadataList", &metabeta.PartialObjectMetadataList{}},
	{"v1", "Status", &meta.Status{}},
	{"*", "DeleteOptions", &meta.DeleteOptions{}},
	{"*", "CreateOptions", &meta.CreateOptions{}},
	{"*", "UpdateOptions", &meta.UpdateOptions{}},
	{"*", "PatchOptions", &meta.PatchOptions{}},
}

// gvk is the kind as an object's TypeMeta names it; for "*" the version is the core group's.
func (k kind) gvk() schema.GroupVersionKind {
	version := k.version
	if version == "*" {
		version = "v1"
	}
	return schema.FromAPIVersionAndKind(version, k.name)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "table":
		return table(os.Stdout)
	case len(args) == 2 && args[0] == "vectors":
		return vectors(args[1])
	}
	return fmt.Errorf("usage: go run . table | go run . vectors DIRECTORY")
}

// modules names the versions that the facts come from.
func modules() string {
	text := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "k8s.io/api" || module.Path == "k8s.io/apimachinery" {
				text += fmt.Sprintf(" %s %s", module.Path, module.Version)
			}
		}
	}
	return text
}
