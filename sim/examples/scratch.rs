use telic_sim::*;
fn main() {
    for f in std::env::args().skip(1) {
        match Model::load_mjcf(camino::Utf8Path::new(&f)) {
            Ok(m) => println!("{f}: nq {} nv {} nu {} bodies {} geoms {}", m.nq(), m.nv(), m.nu(), m.bodies().len(), m.geoms().len()),
            Err(e) => println!("{f}: {e}"),
        }
    }
}
