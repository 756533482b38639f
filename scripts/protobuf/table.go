package main

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strconv"
	"strings"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// special are the types whose JSON or protobuf is written by hand in Go; the transcoder knows them by these names.
var special = map[reflect.Type]string{
	reflect.TypeFor[meta.Time]():                       "time",
	reflect.TypeFor[meta.MicroTime]():                  "microtime",
	reflect.TypeFor[meta.FieldsV1]():                   "json",
	reflect.TypeFor[runtime.RawExtension]():            "json",
	reflect.TypeFor[resource.Quantity]():               "quantity",
	reflect.TypeFor[intstr.IntOrString]():              "intorstring",
	reflect.TypeFor[authorization.ExtraValue]():        "strings",
	reflect.TypeFor[authentication.ExtraValue]():       "strings",
	reflect.TypeFor[authentication.AttestationValue](): "strings",
}

type field struct {
	number int
	name   string
	card   string // value, pointer, list, map, inline
	kind   string
	omit   string // always, empty, zero
}

// table writes every message that the kinds reach, sorted by name, with its fields sorted by number.
func table(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "# Written by scripts/protobuf from%s. Do not edit.\n", modules())
	fmt.Fprintln(w, "#")
	fmt.Fprintln(w, "# kind APIVERSION KIND MESSAGE")
	fmt.Fprintln(w, "# message NAME, then for each field: NUMBER NAME value|pointer|list|map|inline TYPE always|empty|zero")
	fmt.Fprintln(w, "# The last word says when Go leaves the field out of JSON: never, when empty, when zero.")
	messages := map[string][]field{}
	for _, kind := range kinds {
		t := reflect.TypeOf(kind.object).Elem()
		if err := reach(t, messages); err != nil {
			return err
		}
		fmt.Fprintf(w, "kind %s %s %s\n", kind.version, kind.name, name(t))
	}
	names := make([]string, 0, len(messages))
	for name := range messages {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(w, "message %s\n", name)
		for _, f := range messages[name] {
			fmt.Fprintf(w, "%d %s %s %s %s\n", f.number, f.name, f.card, f.kind, f.omit)
		}
	}
	return w.Flush()
}

// name is a type's name as OpenAPI has it: io.k8s.api.core.v1.Service.
func name(t reflect.Type) string {
	path := strings.TrimPrefix(t.PkgPath(), "k8s.io/")
	return "io.k8s." + strings.ReplaceAll(path, "/", ".") + "." + t.Name()
}

// reach adds a message and what it refers to.
func reach(t reflect.Type, messages map[string][]field) error {
	if _, known := messages[name(t)]; known {
		return nil
	}
	messages[name(t)] = nil
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag := strings.Split(f.Tag.Get("protobuf"), ",")
		if tag[0] == "" || tag[0] == "-" {
			if f.Type == reflect.TypeFor[meta.TypeMeta]() {
				continue // In the envelope.
			}
			return fmt.Errorf("%s.%s has no protobuf tag", name(t), f.Name)
		}
		number, err := strconv.Atoi(tag[1])
		if err != nil {
			return fmt.Errorf("%s.%s: %w", name(t), f.Name, err)
		}
		one := field{number: number, card: "value", omit: "always"}
		jsonTag := strings.Split(f.Tag.Get("json"), ",")
		one.name = jsonTag[0]
		for _, option := range jsonTag[1:] {
			switch option {
			case "", "inline":
			case "omitempty":
				if one.omit == "always" {
					one.omit = "empty"
				}
			case "omitzero":
				one.omit = "zero"
			default:
				return fmt.Errorf("%s.%s: unknown option %s", name(t), f.Name, option)
			}
		}
		inner := f.Type
		switch {
		case f.Anonymous && one.name == "":
			one.name, one.card = f.Name, "inline"
			if inner.Kind() != reflect.Struct {
				return fmt.Errorf("%s.%s: only structs are inlined", name(t), f.Name)
			}
		case one.name == "":
			return fmt.Errorf("%s.%s has no JSON name", name(t), f.Name)
		case special[inner] != "":
		case inner.Kind() == reflect.Pointer:
			one.card, inner = "pointer", inner.Elem()
		case inner.Kind() == reflect.Slice && inner.Elem().Kind() != reflect.Uint8:
			one.card, inner = "list", inner.Elem()
		case inner.Kind() == reflect.Map:
			if inner.Key().Kind() != reflect.String {
				return fmt.Errorf("%s.%s: keys are not strings", name(t), f.Name)
			}
			one.card, inner = "map", inner.Elem()
		}
		if one.kind, err = typeName(inner, messages); err != nil {
			return fmt.Errorf("%s.%s: %w", name(t), f.Name, err)
		}
		fields = append(fields, one)
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].number < fields[j].number })
	messages[name(t)] = fields
	return nil
}

func typeName(t reflect.Type, messages map[string][]field) (string, error) {
	if name, ok := special[t]; ok {
		return name, nil
	}
	switch t.Kind() {
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "bool", nil
	case reflect.Int32:
		return "int32", nil
	case reflect.Int64:
		return "int64", nil
	case reflect.Struct:
		return name(t), reach(t, messages)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "bytes", nil
		}
	}
	return "", fmt.Errorf("no name for the type %s", t)
}
