use dflock::server::Server;
use std::time::Duration;
#[tokio::test]
async fn leak() {
    let server = Server::start().await.unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    let held = pool.clone().acquire().await.unwrap();
    let h = tokio::runtime::Handle::current();
    tokio::time::sleep(Duration::from_millis(50)).await;
    println!("base {}", h.metrics().num_alive_tasks());
    for _ in 0..5 { let q = pool.clone().enqueue().await.unwrap(); tokio::time::sleep(Duration::from_millis(20)).await; drop(q); }
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("after {}", h.metrics().num_alive_tasks());
    drop(held);
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("end {}", h.metrics().num_alive_tasks());
}
