package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// vectors writes pairs of JSON and protobuf, as Go's own serializers make them of the same object.
//
//	empty    nothing is set
//	zero     every pointer, list and map is there and holds a zero
//	full     everything is set
//	random   a part is set, by a fixed seed
//
// Lists are empty or zero: their items are the other cases.
func vectors(dir string) error {
	file, err := os.Create(filepath.Join(dir, "vectors.txt"))
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	fmt.Fprintf(w, "# Written by scripts/protobuf from%s. Do not edit.\n", modules())
	fmt.Fprintln(w, "# APIVERSION KIND CASE, then the object as Go writes it in JSON, then as protobuf in hexadecimal digits.")
	for i, kind := range kinds {
		cases := []string{"empty", "zero", "full", "random"}
		if strings.HasSuffix(kind.name, "List") {
			cases = cases[:2]
		}
		for _, name := range cases {
			object := reflect.New(reflect.TypeOf(kind.object).Elem())
			f := filler{mode: name, random: rand.New(rand.NewSource(int64(i)))}
			if name != "empty" {
				f.fill(object.Elem(), 0)
			}
			gvk := kind.gvk()
			object.Interface().(runtime.Object).GetObjectKind().SetGroupVersionKind(gvk)
			text, err := json.Marshal(object.Interface())
			if err != nil {
				return fmt.Errorf("%s %s: %w", kind.name, name, err)
			}
			var wire strings.Builder
			serializer := protobuf.NewSerializer(nil, nil)
			if err := serializer.Encode(object.Interface().(runtime.Object), &wire); err != nil {
				return fmt.Errorf("%s %s: %w", kind.name, name, err)
			}
			fmt.Fprintf(w, "\n%s %s %s\n%s\n%x\n", gvk.GroupVersion(), kind.name, name, text, wire.String())
		}
	}
	return w.Flush()
}

type filler struct {
	mode    string
	random  *rand.Rand
	counter int
}

// has decides whether something optional is there.
func (f *filler) has(depth int) bool {
	return f.mode != "random" || f.random.Intn(10) < 8-depth
}

func (f *filler) next() int {
	f.counter++
	return f.counter
}

func (f *filler) zero() bool { return f.mode == "zero" }

func (f *filler) fill(v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[meta.TypeMeta]():
		return
	case reflect.TypeFor[meta.Time]():
		at := time.Unix(1700000000+int64(f.next()), 0)
		if f.mode == "random" && f.random.Intn(4) == 0 {
			at = time.Unix(-int64(f.next()), 0)
		}
		v.Set(reflect.ValueOf(meta.NewTime(at)))
		return
	case reflect.TypeFor[meta.MicroTime]():
		v.Set(reflect.ValueOf(meta.NewMicroTime(time.Unix(1700000000+int64(f.next()), 123456789))))
		return
	case reflect.TypeFor[meta.FieldsV1]():
		text := "{}"
		if !f.zero() {
			text = fmt.Sprintf(`{"f:spec":{".":{},"f:n%d":{}}}`, f.next())
		}
		v.Set(reflect.ValueOf(*meta.NewFieldsV1(text)))
		return
	case reflect.TypeFor[resource.Quantity]():
		if !f.zero() {
			forms := []string{"%d", "%dm", "%dGi", "%dk", "-%d"}
			n := f.next()
			v.Set(reflect.ValueOf(resource.MustParse(fmt.Sprintf(forms[n%len(forms)], n))))
		}
		return
	case reflect.TypeFor[intstr.IntOrString]():
		n := f.next()
		switch {
		case f.zero():
		case n%2 == 0:
			v.Set(reflect.ValueOf(intstr.FromInt32(int32(n))))
		default:
			v.Set(reflect.ValueOf(intstr.FromString(fmt.Sprintf("p%d", n))))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f.has(depth) || v.Type().Field(i).Anonymous {
				f.fill(v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), depth)
	case reflect.Slice:
		length := 1
		if f.mode == "random" {
			length = 2
		}
		v.Set(reflect.MakeSlice(v.Type(), length, length))
		for i := range length {
			f.fill(v.Index(i), depth)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key, depth)
			f.fill(value, depth)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		if !f.zero() {
			v.SetString(fmt.Sprintf("s%dé", f.next()))
		}
	case reflect.Bool:
		v.SetBool(!f.zero())
	case reflect.Uint8:
		v.SetUint(uint64(f.next() % 256))
	case reflect.Int32, reflect.Int64:
		if f.zero() {
			return
		}
		n := int64(f.next())
		if f.mode == "random" {
			// Large and negative ones, which take ten bytes on the wire.
			n = []int64{n, -n, 1 << 30, -1 << 31}[n%4]
		}
		v.SetInt(n)
	default:
		panic("no filling for " + v.Type().String())
	}
}
